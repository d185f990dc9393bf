"""`twinsite group events`: what was done to a group, and what happened to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, console_for_results, format_time, print_items
from twinsite.client.event_words import changes, heading, known, outcome, told_by

if TYPE_CHECKING:
    from rich.console import Console

    from twinsite.client.models import FeedEvent, GroupEvent

EVENTS_DEFAULT = 20
EVENTS_MAX = 1000
"""Most events that the API gives at once, and keeps of a group."""

_STYLES = {"failed": "bold red", "refused": "yellow"}


@group_app.command("events")
def events(
    group: GroupArgument,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=EVENTS_MAX, help="How many, the newest first.")
    ] = EVENTS_DEFAULT,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what happens from now on, one event a line; Ctrl-C ends it."),
    ] = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """List what was done to a group and what happened to it, with what a failover would have cost at that time."""
    with open_api(data, cloud) as api:
        group_id = api.find_group(group).id
        if follow:
            _follow(api.follow_events(group_id), output)
            return
        found = api.group_events(group_id, limit)
        if output.is_data:
            print_items(output, found, {})
            return
        console = console_for_results()
        for event in found:
            _print_event(console, event)


def _print_event(console: Console, event: GroupEvent) -> None:
    line = Text(f"{event.created_at:%Y-%m-%d %H:%M:%S}  ")
    line.append(heading(event), style="bold")
    line.append(f" {told_by(event)}")
    result = outcome(event)
    if result is not None:
        line.append(f": {result}", style=_STYLES.get(result, ""))
    console.print(line)
    for text in (_changes(event), event.message, known(event)):
        if text:
            console.print(Padding(Text(text), (0, 0, 0, 4), expand=False))


def _follow(events: Iterator[FeedEvent], output: Output) -> None:
    """Print events as they come, until the reader has enough."""
    try:
        for event in events:
            if output.is_data:
                typer.echo(json.dumps(event.as_json(), ensure_ascii=False))
            else:
                what = ", ".join(event.kinds) or event.action
                said = f": {event.message}" if event.message else ""
                typer.echo(
                    f"{format_time(event.created_at)} {event.actor}: {what} ({event.result}){said} [{_changes(event)}]"
                )
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _changes(event: GroupEvent) -> str:
    return ", ".join(f"{change.label} {change.before} -> {change.after}" for change in changes(event))
