"""Show how far a synchronization is: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn

from twinsite.cli.output import format_bytes, format_seconds

if TYPE_CHECKING:
    from twinsite.client.models import Group
    from twinsite.client.models import Progress as ProgressNumbers

LINE_STEP_PERCENT = 10
"""Plain lines come no closer than this."""

_STATES = {
    "connecting": "waiting for the DR site",
    "holding": "writes wait for the DR site or the arbiter",
    "copying": "copying",
    "in_sync": "in sync",
    "paused": "starting",
    "handed_over": "handing over",
}


class SyncBar:
    """A progress bar that is fed with the API's answers about a group."""

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        """Prepare a bar for `console`; a `transient` one disappears at its end."""
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32, complete_style="green", finished_style="green"),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[amount]}"),
            TextColumn("{task.fields[rate]}", style="cyan"),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console,
            transient=transient,
        )
        self._task = self.progress.add_task("starting", total=None, amount="", rate="", left="")

    def update(self, group: Group) -> None:
        """Show what an answer says."""
        numbers = _numbers(group)
        state = describe_state(group)
        if numbers is None:
            self.progress.update(self._task, description=state)
            return
        done, total = numbers.bytes_done, numbers.bytes_total
        if state == "in sync":
            done = total = max(total, 1)
        rate, left = numbers.bytes_per_second, numbers.seconds_left
        self.progress.update(
            self._task,
            description=state,
            completed=done,
            total=total or None,
            amount=f"{format_bytes(numbers.bytes_done)} of {format_bytes(numbers.bytes_total)}",
            rate=f"{format_bytes(rate)}/s" if rate else "",
            left=f"{format_seconds(left)} left" if left and state != "in sync" else "",
        )

    def shown(self) -> AbstractContextManager[object]:
        """Return a context in which the bar is live; on a console that is no terminal it does nothing."""
        return self.progress if self.progress.console.is_terminal else contextlib.nullcontext()

    def snapshot(self, remark: str) -> RenderableType:
        """Return the bar as it stands with a remark at its end, to be printed once."""
        self.progress.update(self._task, left=remark)
        return self.progress.get_renderable()


@contextlib.contextmanager
def show_sync(console: Console) -> Iterator[Callable[[Group], None]]:
    """Yield a function that shows each answer about a group that synchronizes."""
    if console.is_terminal:
        bar = SyncBar(console)
        with bar.shown():
            yield bar.update
        return
    yield _LineWriter(console).update


def show_waiting() -> AbstractContextManager[Callable[[Shown], None]]:
    """Return what shows the status of something that is being made: on a terminal only, and beside the result."""
    console = Console(stderr=True, highlight=False)
    return show_status(console) if console.is_terminal else contextlib.nullcontext(lambda _item: None)


@contextlib.contextmanager
def show_status(console: Console) -> Iterator[Callable[[Shown], None]]:
    """Yield a function that shows the status of what is waited for: a live line on a terminal, lines elsewhere."""
    if console.is_terminal:
        with console.status("waiting") as line:
            yield lambda item: line.update(item.status)
        return
    last: list[str] = []

    def update(item: Shown) -> None:
        if [item.status] != last:
            last[:] = [item.status]
            console.print(item.status)

    yield update


class Shown(Protocol):
    """What has a status."""

    @property
    def status(self) -> str:
        """Return the status."""


class _LineWriter:
    """Prints a line when the state changes or enough has been copied."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[str, int] | None = None

    def update(self, group: Group) -> None:
        state, numbers = describe_state(group), _numbers(group)
        percent = numbers.percent or 0 if numbers else 0
        step = (state, percent // LINE_STEP_PERCENT)
        if step == self._last:
            return
        self._last = step
        if numbers is None or state != "copying":
            self._console.print(state)
            return
        done, total = format_bytes(numbers.bytes_done), format_bytes(numbers.bytes_total)
        rate, left = numbers.bytes_per_second, numbers.seconds_left
        speed = f", {format_bytes(rate)}/s" if rate else ""
        time_left = f", {format_seconds(left)} left" if left else ""
        self._console.print(f"{state}: {percent} % ({done} of {total}{speed}{time_left})")


def describe_state(group: Group) -> str:
    """Return in a few words what a group's replication does."""
    if group.replication_status == "active":
        return "in sync"
    mode = group.mode or group.replication_status or "starting"
    return _STATES.get(mode, mode)


def _numbers(group: Group) -> ProgressNumbers | None:
    return group.twinsite.progress if group.twinsite is not None else None
