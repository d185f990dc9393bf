"""The arrow of replication between two sites, as SVG. Pure; the words beside it say the same."""

from __future__ import annotations

from twinsite.dashboard.words import Flow

WIDTH = 160
HEIGHT = 28
_MIDDLE = HEIGHT // 2
_SIGNS = {
    Flow.RUNNING: "",
    Flow.COPYING: "",
    Flow.PAUSED: '<path class="sign" d="M74 6v16M86 6v16"/>',
    Flow.BROKEN: '<path class="sign" d="M72 6l16 16M88 6l-16 16"/>',
    Flow.HELD: '<path class="sign" d="M74 6v16M86 6v16"/>',
}


def arrow(flow: Flow, *, points_right: bool) -> str:
    """Return an arrow that looks as the replication goes; decoration for those who cannot see it."""
    head = f"M{WIDTH - 14} {_MIDDLE - 8}l10 8-10 8" if points_right else f"M14 {_MIDDLE - 8}l-10 8 10 8"
    sign = _SIGNS[flow]
    gap = (60, 100) if sign else (WIDTH // 2, WIDTH // 2)
    shafts = f"M4 {_MIDDLE}H{gap[0]}M{gap[1]} {_MIDDLE}H{WIDTH - 4}"
    turn = "" if points_right else " leftwards"
    return (
        f'<svg class="arrow {flow}{turn}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<path class="shaft" d="{shafts}"/><path class="head" d="{head}"/>{sign}</svg>'
    )
