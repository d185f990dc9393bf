"""The page of one volume: what it is, how hosts reach it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from nicegui import ui

from twinsite.client import ObjectMissing
from twinsite.client.attaching import TOOLS, texts
from twinsite.client.models import Pair, Volume
from twinsite.dashboard.dialogs import Choice, Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Facts, Rows, box, button, link, set_attribute, text
from twinsite.dashboard.volume_changes import delete, edit, grow
from twinsite.dashboard.volumes import pairs_by_volume, tone_of
from twinsite.dashboard.words import NOTHING, Tone, moment

_FACTS = {
    "id": "Id",
    "site": "Site",
    "size": "Size",
    "kind": "Type",
    "pair": "Pair",
    "made": "Created",
    "tags": "Tags",
}
_TOOLS = {
    "qemu": "QEMU",
    "libvirt": "libvirt",
    "nbd-client": "nbd-client (a block device)",
    "libnbd": "libnbd (Python)",
    "nbdcopy": "nbdcopy (a copy)",
    "fio": "fio (a benchmark)",
}


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


class _Ways:
    """Where a connected host finds the volume, and how the usual tools attach it."""

    def __init__(self) -> None:
        self._uris: list[str] = []
        self._addresses = Rows(box("ul", "addresses"), _Address)
        self._how = box("div", "how")
        with self._how:
            text("h3", "How to attach it")
            self._tool = Choice("tool", "With", {tool: _TOOLS.get(tool, tool) for tool in TOOLS})
            self._tool.changed = self._show
            self._text = text("pre", "", tabindex="0", aria_label="What to give to the tool")
            button("Copy", lambda: ui.clipboard.write(self._text.text), "quiet small", aria_label="Copy what to give")
        self._how.visible = False

    def update(self, uris: list[str]) -> None:
        """Show these addresses; none while no host is connected."""
        self._addresses.update({uri: uri for uri in uris})
        self._uris = uris
        self._how.visible = bool(uris)
        self._show()

    def _show(self) -> None:
        if self._uris:
            self._text.text = texts(self._uris)[self._tool.value]


class _VolumePage:
    """What the page has and knows."""

    def __init__(self, frame: Frame, volume_id: str) -> None:
        self._frame = frame
        self._volume_id = volume_id
        self._volume: Volume | None = None
        self._pair: Pair | None = None
        self._tags: dict[str, str] = {}
        self._uris: list[str] = []
        with box("div", "row title"):
            self._heading = text("h1", "Volume")
            self._state = Chip()
        self._description = text("p", "", "hint")
        self._facts = Facts(_FACTS)
        with box("p", "buttons"):
            self._group = link("The group that it is replicated with", "/groups/")
        with box("div", "buttons", role="group", aria_label="Actions"):
            button("Connect a host", self._connect, "primary")
            button("Edit", lambda: self._change(lambda volume: edit(frame, volume, self._tags, self._again)))
            button("Grow", lambda: self._change(lambda volume: grow(frame, volume, self._pair, self._again)))
            button("Delete", lambda: self._change(lambda volume: delete(frame, volume)), "danger")
        with box("section", aria_labelledby="hosts"):
            text("h2", "Hosts", id="hosts")
            self._hosts = Rows(
                box("ul", "plain"),
                lambda host: _Host(frame, volume_id, host, self._show),
                "No host is connected: nothing is served.",
            )
            self._ways = _Ways()

    def _change(self, change: Callable[[Volume], None]) -> None:
        if self._volume is not None:
            change(self._volume)

    async def _again(self) -> None:
        await self._frame.attempt(self.refresh)

    async def refresh(self) -> None:
        """Read everything anew."""
        client = self._frame.client
        try:
            volume = self._volume = await client.volume(self._volume_id)
        except ObjectMissing:
            self._heading.text = "There is no such volume"
            raise
        self._pair = pairs_by_volume(await client.pairs(volume_id=self._volume_id)).get(self._volume_id)
        self._tags = await client.tags(self._volume_id)
        self._heading.text, self._description.text = volume.name or volume.id, volume.description or ""
        self._state.update(tone_of(volume.status), volume.status)
        self._facts.update(
            id=volume.id,
            site=volume.availability_zone,
            size=f"{volume.size} GiB",
            kind=volume.volume_type,
            pair=_pair_words(volume, self._pair),
            made=moment(volume.created_at),
            tags=", ".join(f"{key}={value}" for key, value in sorted(self._tags.items())) or NOTHING,
        )
        group_id = self._pair.replication_consistency_group_id if self._pair is not None else None
        self._group.visible = group_id is not None
        set_attribute(self._group, "href", f"/ui/groups/{group_id}")
        names = [item.host_name or item.id for item in volume.attachments]
        self._hosts.update({name: name for name in names})
        self._ways.update(self._uris if names else [])

    async def _attach(self, host: str) -> None:
        # For a host that is connected already this does nothing but tell where.
        self._uris = (await self._frame.client.connect_volume(self._volume_id, host)).uris

    async def _show(self, host: str) -> None:
        trouble = await self._frame.act(lambda: self._attach(host))
        if trouble is not None:
            self._frame.say(trouble, Tone.CRITICAL)
        await self._again()

    def _connect(self) -> None:
        dialog = Dialog(self._frame, f"Connect a host to {self._heading.text}", "Connect")
        with dialog.body:
            host = Field("host-name", "Name of the host", hint="Any name by which you know it, db-server for example.")
        dialog.open(lambda: self._attach(host.value), "The volume is served. Its addresses are below.", self._again)


async def volume_page(request: Request, volume_id: str) -> None:
    """Build the page of one volume."""
    frame = Frame(request, "Volume", "/volumes")
    with frame.content():
        page = _VolumePage(frame, volume_id)
    await frame.keep_live(page.refresh)


def _pair_words(volume: Volume, pair: Pair | None) -> str:
    if pair is None:
        return "In no pair: not protected"
    role = "production disk" if volume.availability_zone == pair.priority_station else "DR disk"
    return f"{pair.name or pair.id} ({role})"
