"""What a former primary site alone had, and where it is kept: to be put back by whoever is at that site's machine."""

from __future__ import annotations

import shlex

from nicegui import ui

from twinsite.client.models import GroupReport, KeptWrites
from twinsite.dashboard.parts import Rows, box, button, text
from twinsite.dashboard.words import amount, moment


class _KeptRow:
    def __init__(self, _shown: tuple[KeptWrites, list[str]]) -> None:
        self.root = box("li", "kept")
        with self.root:
            self._words = text("p")
            self._commands = text("pre", "", tabindex="0", aria_label="Commands for the machine of the site")
            button("Copy", lambda: ui.clipboard.write(self._commands.text), "quiet small", aria_label="Copy commands")

    def update(self, shown: tuple[KeptWrites, list[str]]) -> None:
        kept, volume_ids = shown
        at = moment(kept.overwritten_at)
        self._words.text = f"{kept.site}, overwritten from {at} on, {amount(kept.size_bytes)}. On its machine:"
        self._commands.text = kept_commands(kept, volume_ids)


def kept_commands(kept: KeptWrites, volume_ids: list[str]) -> str:
    """Return what puts a log back into copies of the site's volumes; what discards it is a comment."""
    path = shlex.quote(kept.path)
    put_back = [f"twinsite kept put-back {path} {volume_id} COPY-OF-THE-DISK" for volume_id in volume_ids]
    return "\n".join([*put_back, "# When nobody needs it any more:", f"# twinsite kept discard {path}"])


class KeptSection:
    """The logs of a group, shown only while there are some."""

    def __init__(self) -> None:
        self._section = box("section", aria_labelledby="kept")
        with self._section:
            text("h2", "What one site alone had", id="kept")
            text(
                "p",
                "It was overwritten after a failover, and is kept in a log. Put it back into a copy of the disk, never "
                "into the disk itself; do it soon, for the rest of the copy is what the disk holds now.",
                "hint",
            )
            self._rows = Rows(box("ul", "kept-logs"), _KeptRow)
        self._section.visible = False

    def update(self, report: GroupReport) -> None:
        """Show those that there are."""
        ids = {
            report.primary_station: [member.production_volume_id for member in report.members],
            report.secondary_station: [member.dr_volume_id for member in report.members],
        }
        self._section.visible = bool(report.kept_writes)
        self._rows.update({kept.path: (kept, ids.get(kept.site, [])) for kept in report.kept_writes})
