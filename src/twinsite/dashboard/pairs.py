"""The pairs of the project: a production disk and its twin, in a group or not yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from twinsite.client.models import Group, Pair, Volume
from twinsite.dashboard.dialogs import Choice, Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Rows, box, button, link, set_attribute, table, text
from twinsite.dashboard.volumes import pairs_by_volume, tone_of
from twinsite.dashboard.words import NOTHING

_COLUMNS = ("Name", "Production disk", "DR disk", "Group", "State", "Trouble", "Action")


class _PairRow:
    def __init__(self, page: _PairsPage, shown: Pair) -> None:
        self._page = page
        self._pair = shown
        self.root = box("tr")
        with self.root:
            self._name = text("th", scope="row")
            with box("td", data_label="Production disk"):
                self._production = link("", "/volumes/")
            with box("td", data_label="DR disk"):
                self._dr = link("", "/volumes/")
            with box("td", data_label="Group"):
                self._group = link("", "/groups/")
                self._no_group = text("span", NOTHING)
            with box("td", data_label="State"):
                self._state = Chip()
            self._failure = text("td", data_label="Trouble")
            with box("td"):
                self._delete = button("Take apart", lambda: page.delete(self._pair), "quiet small")

    def update(self, shown: Pair) -> None:
        self._pair = shown
        self._name.text = shown.name or shown.id
        production, dr = self._page.disks(shown)
        self._page.show_volume(self._production, production)
        self._page.show_volume(self._dr, dr)
        group_id = shown.replication_consistency_group_id
        self._group.visible, self._no_group.visible = group_id is not None, group_id is None
        if group_id is not None:
            group = self._page.groups.get(group_id)
            self._group.text = (group.name if group is not None else None) or group_id
            set_attribute(self._group, "href", f"/ui/groups/{group_id}")
        self._state.update(tone_of(shown.status), shown.status)
        self._failure.text = shown.failure_detail or NOTHING
        self._delete.visible = group_id is None


class _PairsPage:
    """What the page knows."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.volumes: dict[str, Volume] = {}
        self.groups: dict[str, Group] = {}
        self.rows: Rows[Pair] | None = None

    async def refresh(self) -> None:
        """Read everything anew."""
        client = self.frame.client
        self.volumes = {volume.id: volume for volume in await client.volumes()}
        self.groups = {group.id: group for group in await client.groups()}
        found = await client.pairs()
        if self.rows is not None:
            self.rows.update({pair.id: pair for pair in found})

    async def again(self) -> None:
        """Read everything anew after a change."""
        await self.frame.attempt(self.refresh)

    def disks(self, pair: Pair) -> tuple[str, str]:
        """Return the ids of the production disk and of the DR disk."""
        ids = sorted(pair.volume_ids, key=lambda volume_id: self._zone(volume_id) != pair.priority_station)
        return ids[0], ids[-1]

    def _zone(self, volume_id: str) -> str | None:
        volume = self.volumes.get(volume_id)
        return volume.availability_zone if volume is not None else None

    def show_volume(self, shown: object, volume_id: str) -> None:
        """Let a link lead to a volume."""
        volume = self.volumes.get(volume_id)
        words = volume_id if volume is None else f"{volume.name or volume_id} ({volume.availability_zone})"
        shown.text = words  # type: ignore[attr-defined]
        set_attribute(shown, "href", f"/ui/volumes/{volume_id}")  # type: ignore[arg-type]

    def delete(self, pair: Pair) -> None:
        """Take a pair apart."""
        dialog = Dialog(self.frame, f"Take {pair.name or pair.id} apart", "Take apart", is_dangerous=True)
        with dialog.body:
            text("p", "Both disks stay, with their data, and are no longer twins.", "loss")
        dialog.ask_for_name(pair.name or pair.id)
        dialog.open(lambda: self.frame.client.delete_pair(pair.id), "The pair is being taken apart.", self.again)

    async def create(self) -> None:
        """Ask for the two disks of a new pair."""
        paired = pairs_by_volume(await self.frame.client.pairs())
        await self.refresh()
        _CreateDialog(self.frame, free_volumes(self.volumes, paired), self.again)


def free_volumes(volumes: dict[str, Volume], paired: dict[str, Pair]) -> list[Volume]:
    """Return the volumes that can be paired."""
    usable = ("available", "in-use")
    return [volume for volume in volumes.values() if volume.id not in paired and volume.status in usable]


class _CreateDialog:
    """Offers as DR disks only what fits the production disk that is chosen."""

    def __init__(self, frame: Frame, free: list[Volume], done: Callable[[], Awaitable[None]]) -> None:
        self._free = {volume.id: volume for volume in free}
        dialog = Dialog(frame, "Create a pair", "Create pair")
        with dialog.body:
            self._name = Field("pair-name", "Name", maxlength="255")
            options = {volume.id: _option(volume) for volume in free}
            self._production = Choice("pair-production", "Production disk", options)
            self._dr = Choice("pair-dr", "DR disk", {}, hint="Of the same size and type, at another site, in no use.")
            text("p", "What is on the DR disk is overwritten at the first synchronization.", "loss")
        self._production.changed = self._offer
        self._dialog = dialog
        self._offer()

        async def create() -> None:
            chosen = self._free[self._production.value]
            await frame.client.create_pair(
                volume_ids=[chosen.id, self._dr.value],
                priority_station=chosen.availability_zone,
                name=self._name.value or None,
            )

        dialog.open(create, "The pair is being created.", done)

    def _offer(self) -> None:
        chosen = self._free.get(self._production.value)
        fitting = [volume for volume in self._free.values() if chosen is not None and fits(chosen, volume)]
        self._dr.offer({volume.id: _option(volume) for volume in fitting})
        self._dialog.allow(bool(fitting))


def fits(production: Volume, volume: Volume) -> bool:
    """Say whether a volume can be the twin of a production disk."""
    return (
        volume.availability_zone != production.availability_zone
        and (volume.size, volume.volume_type, volume.multiattach)
        == (production.size, production.volume_type, production.multiattach)
        and not volume.attachments
    )


def _option(volume: Volume) -> str:
    return f"{volume.name or volume.id} · {volume.availability_zone} · {volume.size} GiB · {volume.volume_type}"


async def pairs_page(request: Request) -> None:
    """Build the page."""
    frame = Frame(request, "Pairs", "/pairs")
    page = _PairsPage(frame)
    with frame.content():
        with box("div", "row title"):
            text("h1", "Pairs")
            button("Create a pair", page.create, "primary")
        page.rows = Rows(table(_COLUMNS), lambda pair: _PairRow(page, pair), "There are no pairs yet.")
    await frame.keep_live(page.refresh)
