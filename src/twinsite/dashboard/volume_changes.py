"""What changes a volume: its name, what is written on it, its size, and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from nicegui import ui

from twinsite.client.models import Pair, Volume
from twinsite.client.tags import tag_of
from twinsite.dashboard.dialogs import Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import link, text
from twinsite.dashboard.words import count

Done = Callable[[], Awaitable[None]]


def edit(frame: Frame, volume: Volume, tags: Mapping[str, str], done: Done) -> None:
    """Ask for another name, description and other tags."""
    dialog = Dialog(frame, f"Edit {volume.name or volume.id}", "Save")
    before = dict(sorted(tags.items()))
    lines = "\n".join(f"{key}={value}" for key, value in before.items())
    with dialog.body:
        name = Field("new-name", "Name", volume.name or "", maxlength="255")
        description = Field("new-description", "Description", volume.description or "", maxlength="255")
        hint = "One KEY=VALUE in each line, owner=finance for example."
        written = Field("new-tags", "Tags", lines, hint, tag="textarea", rows="4", spellcheck="false")

    async def save() -> None:
        after = dict(tag_of(line.strip()) for line in written.value.splitlines() if line.strip())
        client = frame.client
        if (name.value, description.value) != (volume.name or "", volume.description or ""):
            await client.update_volume(volume.id, name=name.value, description=description.value)
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        gone = before.keys() - after.keys()
        if gone:
            await client.delete_tags(volume.id, gone)
        if changed:
            await client.add_tags(volume.id, changed)

    dialog.open(save, "What is written on the volume is saved.", done)


def grow(frame: Frame, volume: Volume, pair: Pair | None, done: Done) -> None:
    """Ask for a new size, or say who grows with it."""
    dialog = Dialog(frame, f"Grow {volume.name or volume.id}", "Grow volume")
    if pair is not None:
        _lead_to_group(dialog, pair)
        return
    with dialog.body:
        text("p", "Hosts that connect afterwards see the new size. A volume cannot become smaller again.")
        size = Field(
            "new-size",
            "Size, GiB",
            str(volume.size),
            type="number",
            min=str(volume.size),
            step="1",
            inputmode="numeric",
        )
    dialog.open(lambda: frame.client.extend_volume(volume.id, size.whole), "The volume is growing.", done)


def _lead_to_group(dialog: Dialog, pair: Pair) -> None:
    """Say that the disks of a pair grow together, and where."""
    group_id = pair.replication_consistency_group_id
    with dialog.body:
        text("p", f"The volume is in the pair {pair.name or pair.id}, and both disks of a pair grow together.")
        if group_id is not None:
            link("Grow them on the page of the group", f"/groups/{group_id}")
        else:
            text("p", "Put the pair into a group, which grows its disks, or take it apart first.")
    dialog.inform()


def delete(frame: Frame, volume: Volume) -> None:
    """Ask for the name, and delete the volume."""
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
