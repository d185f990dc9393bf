"""`twinsite top`: what each group does now, live on a terminal or once for scripts."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, console_for_results, format_bytes, format_seconds, print_items
from twinsite.client.errors import ApiUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinsite.client.models import Sample, Traffic

top_app = typer.Typer()

INTERVAL_SECONDS_MIN = 1.0
INTERVAL_SECONDS_MAX = 60.0
UNKNOWN = "?"
"""Stands where nobody knows: the primary is not heard of."""


class Order(StrEnum):
    """What `--sort` takes."""

    NAME = "name"
    WRITES = "writes"
    BYTES = "bytes"
    LATENCY = "latency"
    DIRTY = "dirty"


_MEASURES: Mapping[Order, Callable[[Sample], float]] = {
    Order.WRITES: lambda now: now.writes_per_second,
    Order.BYTES: lambda now: now.write_bytes_per_second + now.read_bytes_per_second,
    Order.LATENCY: lambda now: now.ack_seconds or 0.0,
    Order.DIRTY: lambda now: float(now.dirty_bytes),
}
_WORDS = ("Group", "From → to", "State")
_NUMBERS = ("Writes/s", "Written/s", "Read/s", "Sent/s", "Ack", "Dirty", "Resync", "Hold")
_STATES = {
    "holding": "holding",
    "copying": "copying",
    "in_sync": "in sync",
    "paused": "paused",
    "connecting": "DR site away",
    "handed_over": "handing over",
    "replaced": "replaced",
    "error": "error",
}
"""Of what the primary does, where the group itself is available."""


@top_app.command("top")
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one table and end, as without a terminal.")] = False,
    interval: Annotated[
        float,
        typer.Option(min=INTERVAL_SECONDS_MIN, max=INTERVAL_SECONDS_MAX, help="Seconds between two looks."),
    ] = 2.0,
    sort: Annotated[Order, typer.Option(help="What comes first: the name, or most of something.")] = Order.NAME,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Show what each group does: writes, bytes each way, latency, what its DR side lacks, resync and holds.

    Dirty is what the other site lacks; Ack the mean time from a write's arrival to its acknowledgement; Hold tells for
    how long hosts have waited for the stream or for the arbiter. Ends with Ctrl-C.
    """
    with open_api(data, cloud) as api:
        if once or output is not Output.TABLE or not sys.stdout.isatty():
            listed = ordered(api.traffic(), sort)
            if output is Output.TABLE:
                console_for_results().print(traffic_table(listed))
            else:
                print_items(output, listed, {})
            return
        watch(lambda: ordered(api.traffic(), sort), interval, console_for_results())


def watch(look: Callable[[], Sequence[Traffic]], interval_seconds: float, console: Console) -> None:
    """Show what `look` returns, again and again, until Ctrl-C. While the API is away, what was last known stays."""
    shown: RenderableType = Text("looking …")
    with Live(shown, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                try:
                    listed = look()
                    shown = traffic_table(listed)
                    live.update(Group(summary(listed), shown), refresh=True)
                except ApiUnreachable as error:
                    live.update(Group(Text(f"{error}", style="bold red"), shown), refresh=True)
                time.sleep(interval_seconds)
        except KeyboardInterrupt:
            return


def ordered(listed: Sequence[Traffic], order: Order) -> list[Traffic]:
    """Sort groups: by name, or by most of something and then by name."""
    named = sorted(listed, key=lambda item: (item.name or "", item.id))
    measure = _MEASURES.get(order)
    if measure is None:
        return named
    return sorted(named, key=lambda item: -1.0 if item.now is None else measure(item.now), reverse=True)


def summary(listed: Sequence[Traffic]) -> Text:
    """Return the line above the table: everything together."""
    known = [item.now for item in listed if item.now is not None]
    writes = sum(now.writes_per_second for now in known)
    written, sent = sum(now.write_bytes_per_second for now in known), sum(now.sent_bytes_per_second for now in known)
    holding = sum(now.holding for now in known)
    moment = datetime.datetime.now(datetime.UTC).strftime("%H:%M:%S UTC")
    text = Text(f"{moment}  {_count(len(listed), 'group')}  {writes:,.0f} writes/s  ")
    text.append(f"{format_bytes(written)}/s written  {format_bytes(sent)}/s sent")
    if holding:
        text.append(f"  {_count(holding, 'group')} holding", style="bold red")
    return text


def traffic_table(listed: Sequence[Traffic]) -> Table:
    """Return the table of groups."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in _WORDS:
        table.add_column(heading, no_wrap=heading != _WORDS[0], overflow="fold")
    for heading in _NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    for item in listed:
        table.add_row(*_cells(item))
    return table


def _cells(item: Traffic) -> list[Text]:
    names = [item.name or item.id, f"{item.priority_station} → {item.secondary_station}", _state(item)]
    now = item.now
    if now is None:
        return [Text(text) for text in [*names, *[UNKNOWN] * len(_NUMBERS)]]
    numbers = [
        f"{now.writes_per_second:,.0f}",
        f"{format_bytes(now.write_bytes_per_second)}/s",
        f"{format_bytes(now.read_bytes_per_second)}/s",
        f"{format_bytes(now.sent_bytes_per_second)}/s",
        "-" if now.ack_seconds is None else format_latency(now.ack_seconds),
        format_bytes(now.dirty_bytes),
        _resync(item, now),
    ]
    return [*(Text(text) for text in [*names, *numbers]), _hold(item, now)]


def _state(item: Traffic) -> str:
    if item.status != "available":
        return item.status
    mode = item.mode
    # The primary waits for the DR side before the arbiter has recorded it; until then it is not in sync.
    if mode == "in_sync" and item.replication_status != "active":
        return item.replication_status
    return _STATES.get(mode, mode) if mode is not None else "primary away"


def _resync(item: Traffic, now: Sample) -> str:
    if not now.resync_bytes_left:
        return "-"
    percent, left = item.progress.percent, item.progress.seconds_left
    parts = [] if percent is None else [f"{percent} %"]
    parts.append(f"{format_bytes(now.resync_bytes_left)} left")
    if left is not None:
        parts.append(format_seconds(left))
    return ", ".join(parts)


def _hold(item: Traffic, now: Sample) -> Text:
    if not now.holding:
        return Text("-")
    if item.holding_since is None:
        return Text("yes", style="bold red")
    seconds = (now.at - item.holding_since).total_seconds()
    return Text(format_seconds(max(0.0, seconds)), style="bold red")


def format_latency(seconds: float) -> str:
    """Return a latency with three digits that say something: `0.21 ms`, `45.1 ms`, `2.30 s`."""
    if seconds >= 1.0:
        return f"{seconds:.2f} s"
    milliseconds = 1000 * seconds
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.1f} ms"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
