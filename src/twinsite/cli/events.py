"""`twinsite events` and `twinsite group events`: what was done to a group, and what happened to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, console_for_results, format_time, print_items
from twinsite.client.event_words import OBSERVED, changes, heading, known, outcome, told_by

if TYPE_CHECKING:
    from rich.console import Console

    from twinsite.client.models import FeedEvent, GroupEvent

EVENTS_DEFAULT = 20
EVENTS_MAX = 1000
"""Most events that the API gives at once, and keeps of a group."""

_STYLES = {"failed": "bold red", "refused": "yellow"}


LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=EVENTS_MAX, help="How many, the newest first.")]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", "-f", help="Go on with what happens from now on, one event a line; Ctrl-C ends it."),
]

events_app = typer.Typer()


@group_app.command("events")
def events(
    group: GroupArgument,
    limit: LimitOption = EVENTS_DEFAULT,
    follow: FollowOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """List what was done to a group and what happened to it, with what a failover would have cost at that time.

    The events of a group that was deleted are found by its full id.
    """
    with open_api(data, cloud) as api:
        group_id = api.find_group_id(group)
        if follow:
            _follow(api.follow_events(group_id), output)
        else:
            _print_events(output, api.group_events(group_id, limit))


@events_app.command("events")
def all_events(
    limit: LimitOption = EVENTS_DEFAULT,
    follow: FollowOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """List what was done to the groups of the project and what happened to them; 'group events' is for one of them."""
    with open_api(data, cloud) as api:
        if follow:
            _follow(api.follow_events(), output, is_of_several=True)
            return
        found = api.events(limit)
        _print_events(output, found, [_group_of(event) for event in found])


def _group_of(event: FeedEvent) -> str:
    return event.group_name or event.group_id


def _print_events(output: Output, found: Sequence[GroupEvent], groups: Sequence[str] | None = None) -> None:
    """Print events, each with its group where they are of several."""
    if output.is_data:
        print_items(output, found, {})
        return
    console = console_for_results()
    for event, group in zip(found, groups or [""] * len(found), strict=True):
        _print_event(console, event, group)


def _print_event(console: Console, event: GroupEvent, group: str) -> None:
    line = Text(f"{event.created_at:%Y-%m-%d %H:%M:%S}  {f'{group}: ' if group else ''}")
    line.append(heading(event), style="bold")
    line.append(f"{',' if event.action == OBSERVED else ''} {told_by(event)}")
    result = outcome(event)
    if result is not None:
        line.append(f": {result}", style=_STYLES.get(result, ""))
    console.print(line)
    for text in (_changes(event), event.message, known(event)):
        if text:
            console.print(Padding(Text(text), (0, 0, 0, 4), expand=False))


def _follow(events: Iterator[FeedEvent], output: Output, *, is_of_several: bool = False) -> None:
    """Print events as they come, until the reader has enough."""
    try:
        for event in events:
            if output.is_data:
                typer.echo(json.dumps(event.as_json(), ensure_ascii=False))
            else:
                what = ", ".join(event.kinds) or event.action
                said = f": {event.message}" if event.message else ""
                by = f"{_group_of(event)}: {event.actor}" if is_of_several else event.actor
                typer.echo(f"{format_time(event.created_at)} {by}: {what} ({event.result}){said} [{_changes(event)}]")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _changes(event: GroupEvent) -> str:
    return ", ".join(f"{change.label} {change.before} -> {change.after}" for change in changes(event))
