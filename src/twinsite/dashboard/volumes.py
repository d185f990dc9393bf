"""The volumes of the project, and the page of one: how hosts reach it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from nicegui import ui

from twinsite.client.models import Pair, Volume
from twinsite.dashboard.dialogs import Choice, Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Facts, Rows, box, button, link, set_attribute, text
from twinsite.dashboard.words import NOTHING, Tone, count, moment

SIZE_GIB_DEFAULT = "10"
_TONES = {"available": Tone.OK, "in-use": Tone.OK}
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


async def volumes_page(request: Request) -> None:
    """Build the page of all volumes."""
    frame = Frame(request, "Volumes", "/volumes")

    async def refresh() -> None:
        paired = pairs_by_volume(await frame.client.pairs())
        found = await frame.client.volumes()
        rows.update({volume.id: (volume, paired.get(volume.id)) for volume in found})

    async def create() -> None:
        await create_volume_dialog(frame, lambda: frame.attempt(refresh))

    with frame.content():
        with box("div", "row title"):
            text("h1", "Volumes")
            button("Create a volume", create, "primary")
        with box("div", "scroll"), box("table", "stacking"):
            with box("thead"), box("tr"):
                for title in _COLUMNS:
                    text("th", title, scope="col")
            body = box("tbody")
        rows = Rows(body, _VolumeRow, "There are no volumes yet.")
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
            size_gib=whole(size.value), zone=zone.value, name=name.value or None, volume_type=kind.value
        )

    dialog.open(create, "The volume is being created.", done)


def whole(value: str) -> int:
    """Return a number that was typed; 0, which the API refuses with a sentence, when it is none."""
    return int(value) if value.isdecimal() else 0


class _Address:
    def __init__(self, uri: str) -> None:
        self.root = box("li")
        with self.root:
            self._code = text("code", uri)
            button("Copy", lambda: ui.clipboard.write(self._code.text), "quiet small", aria_label=f"Copy {uri}")

    def update(self, uri: str) -> None:
        self._code.text = uri


class _Host:
    def __init__(self, frame: Frame, volume_id: str, host: str, show: Callable[[str], Awaitable[None]]) -> None:
        self.root = box("li")
        with self.root:
            text("span", host)
            button("Show its addresses", lambda: show(host), "quiet small")
            button("Disconnect", lambda: self._disconnect(frame, volume_id, host), "quiet small")

    def update(self, host: str) -> None:
        """A host has nothing but its name."""

    def _disconnect(self, frame: Frame, volume_id: str, host: str) -> None:
        dialog = Dialog(frame, f"Disconnect {host}", "Disconnect", is_dangerous=True)
        with dialog.body:
            text("p", "The host can neither read nor write the volume then. Stop what uses it there first.", "loss")
        dialog.open(lambda: frame.client.disconnect_volume(volume_id, host), f"{host} is disconnected.")


async def volume_page(request: Request, volume_id: str) -> None:
    """Build the page of one volume."""
    frame = Frame(request, "Volume", "/volumes")
    known: list[Volume] = []
    addresses_of: list[str] = []

    async def again() -> None:
        await frame.attempt(refresh)

    async def refresh() -> None:
        volume = await frame.client.volume(volume_id)
        known[:] = [volume]
        heading.text = volume.name or volume.id
        state.update(tone_of(volume.status), volume.status)
        paired = pairs_by_volume(await frame.client.pairs(volume_id=volume_id)).get(volume_id)
        facts.update(
            id=volume.id,
            site=volume.availability_zone,
            size=f"{volume.size} GiB",
            kind=volume.volume_type,
            pair=_pair_words(volume, paired),
            made=moment(volume.created_at),
        )
        names = [item.host_name or item.id for item in volume.attachments]
        hosts.update({name: name for name in names})
        addresses.update({uri: uri for uri in addresses_of if names})

    async def attach(host: str) -> None:
        # For a host that is connected already this does nothing but tell where.
        addresses_of[:] = (await frame.client.connect_volume(volume_id, host)).uris

    async def show(host: str) -> None:
        trouble = await frame.act(lambda: attach(host))
        if trouble is not None:
            frame.say(trouble, Tone.CRITICAL)
        await again()

    def connect() -> None:
        dialog = Dialog(frame, f"Connect a host to {heading.text}", "Connect")
        with dialog.body:
            host = Field("host-name", "Name of the host", hint="Any name by which you know it, db-server for example.")

        dialog.open(lambda: attach(host.value), "The volume is served. Its addresses are below.", again)

    with frame.content():
        with box("div", "row title"):
            heading = text("h1", "Volume")
            state = Chip()
        facts = Facts({"id": "Id", "site": "Site", "size": "Size", "kind": "Type", "pair": "Pair", "made": "Created"})
        with box("div", "buttons", role="group", aria_label="Actions"):
            button("Connect a host", connect, "primary")
            button("Rename", lambda: _rename(frame, known[0], again) if known else None)
            button("Delete", lambda: _delete(frame, known[0]) if known else None, "danger")
        with box("section", aria_labelledby="hosts"):
            text("h2", "Hosts", id="hosts")
            hosts = Rows(
                box("ul", "plain"),
                lambda host: _Host(frame, volume_id, host, show),
                "No host is connected: nothing is served.",
            )
            addresses = Rows(box("ul", "addresses"), _Address)
    await frame.keep_live(refresh)


def _pair_words(volume: Volume, pair: Pair | None) -> str:
    if pair is None:
        return "In no pair: not protected"
    role = "production disk" if volume.availability_zone == pair.priority_station else "DR disk"
    return f"{pair.name or pair.id} ({role})"


def _rename(frame: Frame, volume: Volume, done: Done) -> None:
    dialog = Dialog(frame, f"Rename {volume.name or volume.id}", "Rename")
    with dialog.body:
        field = Field("new-name", "New name", volume.name or "", maxlength="255")
    dialog.open(
        lambda: frame.client.update_volume(volume.id, name=field.value),
        "The volume has a new name.",
        done,
    )


def _delete(frame: Frame, volume: Volume) -> None:
    dialog = Dialog(frame, f"Delete {volume.name or volume.id}", "Delete volume", is_dangerous=True)
    with dialog.body:
        hosts = count(len(volume.attachments), "host", "hosts")
        text("p", f"All {volume.size} GiB on it are gone then, and nothing brings them back. {hosts} use it.", "loss")
    dialog.ask_for_name(volume.name or volume.id)
    dialog.open(
        lambda: frame.client.delete_volume(volume.id),
        "The volume is being deleted.",
        lambda: ui.navigate.to("/volumes"),
    )
