"""The guided form: from disks, old or new, to a group that protects them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request
from nicegui import ui

from twinsite.client import AsyncClient
from twinsite.client.models import Volume
from twinsite.dashboard.changes import check_box
from twinsite.dashboard.dialogs import Choice, Dialog, Field, listed
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.pairs import free_volumes
from twinsite.dashboard.parts import Rows, box, button, text
from twinsite.dashboard.volumes import SIZE_GIB_DEFAULT, pairs_by_volume
from twinsite.dashboard.words import count

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NewDisk:
    """A production disk that is to be made."""

    name: str
    size_gib: int
    volume_type: str


@dataclass(slots=True)
class Wish:
    """What the form asks for: a group of `primary`, copied to `secondary`."""

    name: str
    primary: str
    secondary: str
    old: list[Volume] = field(default_factory=list)
    new: list[NewDisk] = field(default_factory=list)

    def trouble(self) -> str | None:
        """Say what is missing or wrong."""
        if not self.name.strip():
            return "Give the group a name."
        if self.primary == self.secondary:
            return "Choose two different sites."
        if not self.old and not self.new:
            return "Choose a disk, or add a new one."
        if any(disk.size_gib < 1 for disk in self.new):
            return "A new disk has at least 1 GiB."
        return None

    def steps(self) -> list[str]:
        """Say what will be done."""
        names = [*(volume.name or volume.id for volume in self.old), *(disk.name for disk in self.new)]
        made = [f"Make the disk {disk.name}, {disk.size_gib} GiB, in {self.primary}." for disk in self.new]
        twins = [f"Make a DR disk of the same size in {self.secondary} for {name}." for name in names]
        return [
            *made,
            *twins,
            f"Pair {count(len(names), 'disk', 'disks')} with {'its twin' if len(names) == 1 else 'their twins'}.",
            f"Make the group {self.name} of {count(len(names), 'pair', 'pairs')}.",
            f"Synchronize: copy everything from {self.primary} to {self.secondary}. Hosts go on meanwhile.",
        ]


async def fulfil(client: AsyncClient, wish: Wish, tell: Tell) -> str:
    """Make everything; return the group's id. What was made before a failure stays, and `tell` has said it."""
    production: list[tuple[str, str, int, str, bool]] = [
        (volume.id, volume.name or volume.id, volume.size, volume.volume_type, volume.multiattach)
        for volume in wish.old
    ]
    for disk in wish.new:
        tell(f"Making the disk {disk.name} in {wish.primary}")
        made = await client.create_volume(
            size_gib=disk.size_gib, zone=wish.primary, name=disk.name, volume_type=disk.volume_type
        )
        production.append((made.id, disk.name, disk.size_gib, disk.volume_type, False))
    twins: list[str] = []
    for _, name, size_gib, volume_type, multiattach in production:
        tell(f"Making the DR disk of {name} in {wish.secondary}")
        twin = await client.create_volume(
            size_gib=size_gib,
            zone=wish.secondary,
            name=f"{name}-dr",
            volume_type=volume_type,
            multiattach=multiattach or None,
        )
        twins.append(twin.id)
    for volume_id in [*(item[0] for item in production), *twins]:
        await client.wait_for_volume(volume_id)
    pair_ids: list[str] = []
    for (volume_id, name, *_), twin_id in zip(production, twins, strict=True):
        tell(f"Pairing {name} with its twin")
        pair = await client.create_pair(volume_ids=[volume_id, twin_id], priority_station=wish.primary, name=name)
        pair_ids.append((await client.wait_for_pair(pair.id)).id)
    tell(f"Making the group {wish.name}")
    group = await client.create_group(pair_ids=pair_ids, priority_station=wish.primary, name=wish.name)
    await client.wait_for_group(group.id)
    tell("Starting the synchronization")
    await client.sync_group(group.id)
    return group.id


class _NewDiskRow:
    def __init__(self, page: _ProtectPage, key: int) -> None:
        self._page = page
        self.root = box("li", "new-disk")
        with self.root:
            self.name = Field(f"disk-{key}-name", "Name of the new disk", f"disk-{key}", maxlength="255")
            self.size = Field(f"disk-{key}-size", "Size, GiB", SIZE_GIB_DEFAULT, type="number", min="1", step="1")
            self.kind = Choice(f"disk-{key}-type", "Type", page.types)
            button("Remove", lambda: page.remove(key), "quiet small", aria_label=f"Remove new disk {key}")

    def update(self, _key: int) -> None:
        """The form is the person's."""


class _OldDiskRow:
    def __init__(self, chosen: dict[str, bool], volume: Volume) -> None:
        self.root = box("li")
        chosen.setdefault(volume.id, False)
        with self.root:
            label = f"{volume.name or volume.id} · {volume.size} GiB · {volume.volume_type}"
            check_box(f"old-{volume.id}", label, chosen, volume.id)

    def update(self, _volume: Volume) -> None:
        """What is chosen stays."""


class _ProtectPage:
    """The form and what is filled into it."""

    def __init__(self, frame: Frame, zones: list[str], types: dict[str, str]) -> None:
        self._frame = frame
        self.types = types
        self._free: list[Volume] = []
        self._chosen: dict[str, bool] = {}
        self._keys: list[int] = []
        self._made: dict[int, _NewDiskRow] = {}
        options = {zone: zone for zone in zones}
        text("h1", "Protect disks")
        text("p", "A group keeps its disks in step at two sites, all at one point in time.", "summary")
        with box("section", "card", aria_labelledby="step-1"):
            text("h2", "1. The group", id="step-1")
            self._name = Field(
                "group-name", "Name", hint="The name of the service whose disks these are.", maxlength="255"
            )
            self._primary = Choice("primary", "Production site, where hosts write", options)
            self._secondary = Choice("secondary", "DR site, where the twins are", options, zones[-1])
        with box("section", "card", aria_labelledby="step-2"):
            text("h2", "2. Its disks", id="step-2")
            text("h3", "Disks that are there")
            self._old = Rows(
                box("ul", "plain"),
                lambda volume: _OldDiskRow(self._chosen, volume),
                "No disk at this site is free: each is in a pair, or there is none.",
            )
            text("h3", "New disks")
            self._new = Rows(box("ul", "plain"), self._make_row)
            button("Add a new disk", self.add)
        with box("section", "card", aria_labelledby="step-3"):
            text("h2", "3. What will happen", id="step-3")
            self._trouble = text("p", "", "alert", role="alert")
            self._trouble.visible = False
            button("Show the plan", self.show_plan, "primary")
        self._primary.changed = self.offer

    def _make_row(self, key: int) -> _NewDiskRow:
        self._made[key] = _NewDiskRow(self, key)
        return self._made[key]

    def add(self) -> None:
        """Add the fields of a new disk."""
        self._keys.append(max(self._keys, default=0) + 1)
        self._new.update({key: key for key in self._keys})

    def remove(self, key: int) -> None:
        """Take them away."""
        self._keys.remove(key)
        self._new.update({key: key for key in self._keys})

    async def refresh(self) -> None:
        """Read which disks there are."""
        client = self._frame.client
        paired = pairs_by_volume(await client.pairs())
        volumes = {volume.id: volume for volume in await client.volumes()}
        self._free = free_volumes(volumes, paired)
        self.offer()

    def offer(self) -> None:
        """Offer the disks of the site that is chosen."""
        here = [volume for volume in self._free if volume.availability_zone == self._primary.value]
        self._old.update({volume.id: volume for volume in here})

    def wish(self) -> Wish:
        """Return what is filled in."""
        here = [volume for volume in self._free if volume.availability_zone == self._primary.value]
        new = [self._made[key] for key in self._keys]
        return Wish(
            self._name.value.strip(),
            self._primary.value,
            self._secondary.value,
            [volume for volume in here if self._chosen.get(volume.id)],
            [NewDisk(row.name.value.strip(), row.size.whole, row.kind.value) for row in new],
        )

    def show_plan(self) -> None:
        """Say what would be done, and do it if that is wanted."""
        wish = self.wish()
        trouble = wish.trouble()
        self._trouble.text, self._trouble.visible = trouble or "", trouble is not None
        if trouble is not None:
            return
        made: list[str] = []
        dialog = Dialog(self._frame, f"Protect {wish.name}", "Do it")
        with dialog.body:
            listed("What happens then", wish.steps(), "ol")
            said = text("p", "", "progress-words", role="status")

        async def do() -> None:
            made[:] = [await fulfil(self._frame.client, wish, lambda words: setattr(said, "text", f"{words} …"))]

        def go_on() -> None:
            ui.navigate.to(f"/groups/{made[0]}")

        dialog.open(do, "The group is being synchronized.", go_on)


async def protect_page(request: Request) -> None:
    """Build the page."""
    frame = Frame(request, "Protect disks", "/protect")
    zones: list[str] = []
    types: dict[str, str] = {}

    async def read() -> None:
        zones[:] = sorted(zone.name for zone in await frame.client.zones())
        types.update({kind.name: kind.name for kind in await frame.client.volume_types()})

    await frame.attempt(read)
    if not zones:
        return
    with frame.content():
        page = _ProtectPage(frame, zones, types)
    await frame.keep_live(page.refresh)
