"""The volumes of the project, what it may have of them, and making new ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from twinsite.client import Forbidden
from twinsite.client.models import Pair, Volume
from twinsite.client.quotas import UNLIMITED, QuotaUse
from twinsite.dashboard.dialogs import Choice, Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Facts, Rows, box, button, link, set_attribute, table, text
from twinsite.dashboard.words import NOTHING, Tone

SIZE_GIB_DEFAULT = "10"
_TONES = {"available": Tone.OK, "in-use": Tone.OK}
_QUOTA = {
    "volumes": "Volumes",
    "gigabytes": "GiB of all volumes",
    "per_volume_gigabytes": "GiB of one volume",
    "replications": "Pairs",
    "replication_consistency_groups": "Groups",
}
_COLUMNS = ("Name", "Site", "Size", "State", "Hosts", "Pair")

Done = Callable[[], Awaitable[None]]
Shown = tuple[Volume, Pair | None]


def tone_of(status: str) -> Tone:
    """Return how good or bad a volume's or a pair's status is."""
    return Tone.CRITICAL if status.startswith("error") else _TONES.get(status, Tone.NOTICE)


class _VolumeRow:
    def __init__(self, _shown: Shown) -> None:
        self.root = box("tr")
        with self.root:
            with box("th", scope="row"):
                self._name = link("", "/volumes/")
            self._site = text("td", data_label="Site")
            self._size = text("td", data_label="Size")
            with box("td", data_label="State"):
                self._state = Chip()
            self._hosts = text("td", data_label="Hosts")
            self._pair = text("td", data_label="Pair")

    def update(self, shown: Shown) -> None:
        volume, pair = shown
        self._name.text = volume.name or volume.id
        set_attribute(self._name, "href", f"/ui/volumes/{volume.id}")
        self._site.text = volume.availability_zone
        self._size.text = f"{volume.size} GiB"
        self._state.update(tone_of(volume.status), volume.status)
        self._hosts.text = ", ".join(item.host_name or item.id for item in volume.attachments) or NOTHING
        self._pair.text = NOTHING if pair is None else pair.name or pair.id


def pairs_by_volume(pairs: list[Pair]) -> dict[str, Pair]:
    """Return each paired volume's pair."""
    return {volume_id: pair for pair in pairs for volume_id in pair.volume_ids}


class _Quota:
    """What the project may have, and what it has."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._section = box("section", aria_labelledby="quota")
        with self._section:
            text("h2", "What the project may have", id="quota")
            self._facts = Facts(_QUOTA)
        self._section.visible = False

    async def refresh(self) -> None:
        """Read it anew. An operator may have it hidden."""
        try:
            found = await self._frame.client.quota()
        except Forbidden:
            self._section.visible = False
            return
        self._section.visible = True
        self._facts.update(**{field: _use_words(field, getattr(found, field)) for field in _QUOTA})


def _use_words(field: str, use: QuotaUse) -> str:
    if field == "per_volume_gigabytes":
        return "any size" if use.limit == UNLIMITED else f"at most {use.limit:,}"
    return f"{use.in_use:,}, no limit" if use.limit == UNLIMITED else f"{use.in_use:,} of {use.limit:,}"


async def volumes_page(request: Request) -> None:
    """Build the page of all volumes."""
    frame = Frame(request, "Volumes", "/volumes")

    async def refresh() -> None:
        paired = pairs_by_volume(await frame.client.pairs())
        found = await frame.client.volumes()
        rows.update({volume.id: (volume, paired.get(volume.id)) for volume in found})
        await quota.refresh()

    async def create() -> None:
        await create_volume_dialog(frame, lambda: frame.attempt(refresh))

    with frame.content():
        with box("div", "row title"):
            text("h1", "Volumes")
            button("Create a volume", create, "primary")
        rows = Rows(table(_COLUMNS), _VolumeRow, "There are no volumes yet.")
        quota = _Quota(frame)
    await frame.keep_live(refresh)


async def create_volume_dialog(frame: Frame, done: Done) -> None:
    """Ask for what a new volume needs."""
    client = frame.client
    zones = {zone.name: zone.name for zone in sorted(await client.zones(), key=lambda zone: zone.name)}
    types = {kind.name: kind.name for kind in await client.volume_types()}
    dialog = Dialog(frame, "Create a volume", "Create volume")
    with dialog.body:
        name = Field("volume-name", "Name", maxlength="255")
        size = Field("volume-size", "Size, GiB", SIZE_GIB_DEFAULT, type="number", min="1", step="1")
        zone = Choice("volume-zone", "Site", zones)
        kind = Choice("volume-type", "Type", types)

    async def create() -> None:
        await client.create_volume(
            size_gib=size.whole, zone=zone.value, name=name.value or None, volume_type=kind.value
        )

    dialog.open(create, "The volume is being created.", done)
