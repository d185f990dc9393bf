"""What changes a group and moves it nowhere: its name, its pairs, the sizes of its disks, and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from twinsite.client.models import Pair, Volume
from twinsite.dashboard.dialogs import Dialog, Field, listed
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import box, button, text
from twinsite.dashboard.words import count

Refresh = Callable[[], Awaitable[None]]
Named = Callable[[], tuple[str, str]]


def change_buttons(frame: Frame, group: Named, pairs: list[Pair], volumes: dict[str, Volume], done: Refresh) -> None:
    """Show the buttons. `pairs` and `volumes` are what the group has at the moment in which one is pressed."""
    with box("div", "buttons", role="group", aria_label="Changes"):
        button("Rename", lambda: _rename(frame, *group(), done))
        button("Change pairs", lambda: _change_pairs(frame, *group(), list(pairs), done))
        button("Grow disks", lambda: _grow(frame, *group(), list(pairs), volumes, done))
        button("Delete group", lambda: _delete(frame, *group(), list(pairs)), "danger")


def _rename(frame: Frame, group_id: str, name: str, done: Refresh) -> None:
    dialog = Dialog(frame, f"Rename {name}", "Rename")
    with dialog.body:
        field = Field("new-name", "New name", name, maxlength="255")
    dialog.open(lambda: frame.client.update_group(group_id, name=field.value), "The group has a new name.", done)


async def _change_pairs(frame: Frame, group_id: str, name: str, pairs: list[Pair], done: Refresh) -> None:
    """Put pairs in and take pairs out; the API wants the group paused for it."""
    free = [pair for pair in await frame.client.pairs(status="available") if not pair.replication_consistency_group_id]
    wanted = {pair.id: True for pair in pairs} | {pair.id: False for pair in free}
    dialog = Dialog(frame, f"Pairs of {name}", "Change pairs")
    with dialog.body:
        text("p", "Pairs are put in and taken out while the group is paused: pause it first, and synchronize it after.")
        with box("fieldset"):
            text("legend", "Pairs in the group")
            for pair in [*pairs, *free]:
                check_box(f"pair-{pair.id}", pair.name or pair.id, wanted, pair.id)
        if not wanted:
            text("p", "There are no pairs.", "nothing")
    was = {pair.id for pair in pairs}

    async def change() -> None:
        await frame.client.update_group(
            group_id,
            add_pair_ids=[pair_id for pair_id, is_in in wanted.items() if is_in and pair_id not in was],
            remove_pair_ids=[pair_id for pair_id, is_in in wanted.items() if not is_in and pair_id in was],
        )

    dialog.open(change, "The group's pairs are being changed.", done)


def check_box(name: str, label: str, chosen: dict[str, bool], key: str) -> None:
    """Show a box that sets `chosen[key]`."""
    with box("label", "check"):
        attributes = {"checked": ""} if chosen[key] else {}
        check = box("input", id=name, type="checkbox", **attributes)
        check.on(
            "change",
            lambda event: chosen.__setitem__(key, bool(event.args)),
            js_handler="(e) => emit(e.target.checked)",
        )
        text("span", label)


def _grow(frame: Frame, group_id: str, name: str, pairs: list[Pair], volumes: dict[str, Volume], done: Refresh) -> None:
    sizes = {pair.id: max((volumes[i].size for i in pair.volume_ids if i in volumes), default=0) for pair in pairs}
    dialog = Dialog(frame, f"Grow the disks of {name}", "Grow disks")
    fields: dict[str, Field] = {}
    with dialog.body:
        text("p", "Both disks of a pair grow together, while hosts go on. A disk cannot become smaller again.")
        for pair in pairs:
            size = sizes[pair.id]
            fields[pair.id] = Field(
                f"size-{pair.id}", f"{pair.name or pair.id}, GiB", str(size), type="number", min=str(size), step="1"
            )

    async def grow() -> None:
        wanted = {pair_id: int(field.value) for pair_id, field in fields.items() if field.value.isdecimal()}
        grown = {pair_id: size for pair_id, size in wanted.items() if size != sizes[pair_id]}
        await frame.client.extend_group(group_id, grown)

    dialog.open(grow, "The disks have grown.", done)


def _delete(frame: Frame, group_id: str, name: str, pairs: list[Pair]) -> None:
    dialog = Dialog(frame, f"Delete {name}", "Delete group", is_dangerous=True)
    steps = ["The replication is paused."] if pairs else []
    steps += [f"{count(len(pairs), 'pair leaves', 'pairs leave')} the group."] if pairs else []
    with dialog.body:
        listed("What happens then", [*steps, "The group is deleted."], "ol")
        text("p", "Pairs and disks stay, with all their data. They are no longer replicated.", "loss")
    dialog.ask_for_name(name)

    async def delete() -> None:
        client = frame.client
        if pairs:
            await client.stop_group(group_id)
            await client.update_group(group_id, remove_pair_ids=[pair.id for pair in pairs])
            await client.wait_for_group(group_id)
        await client.delete_group(group_id)

    dialog.open(delete, "The group is being deleted.", lambda: ui.navigate.to("/"))
