"""A small chart of one figure over the last hour, as SVG that needs no script. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH = 240
HEIGHT = 56
MARGIN = 3
DASH = 4


def sparkline(values: Sequence[float | None], label: str) -> str:
    """Return the chart of `values`, oldest first; None leaves a gap. The scale begins at 0 and ends at the greatest."""
    known = [value for value in values if value is not None]
    top = max(known, default=0.0) or 1.0
    step = (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
    lines = "".join(
        f'<polyline class="line" points="{" ".join(points)}"/>' for points in _runs(values, top, step) if points
    )
    base = HEIGHT - MARGIN
    return (
        f'<svg class="sparkline" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><line class="base" x1="0" y1="{base}" x2="{WIDTH}" y2="{base}"/>{lines}</svg>'
    )


def _runs(values: Sequence[float | None], top: float, step: float) -> list[list[str]]:
    """Return the points of each stretch without a gap. One that stands alone is drawn as a short dash."""
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
            continue
        x, y = MARGIN + index * step, HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)
        runs[-1].append(f"{x:.1f},{y:.1f}")
        is_alone = len(runs[-1]) == 1 and (index + 1 == len(values) or values[index + 1] is None)
        if is_alone:
            runs[-1].append(f"{min(x + DASH, WIDTH - MARGIN / 2):.1f},{y:.1f}")
    return runs
