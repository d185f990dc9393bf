"""`twinsite group events`: what was done to a group, and what happened to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, format_time, print_items, print_rows

if TYPE_CHECKING:
    from twinsite.client.models import FeedEvent, GroupEvent

EVENTS_DEFAULT = 20
EVENTS_MAX = 1000
"""Most events that the API gives at once, and keeps of a group."""

_COLUMNS = {
    "created_at": "Time (UTC)",
    "actor": "Who",
    "action": "What",
    "result": "Result",
    "change": "Change",
    "known": "Known then",
    "message": "Message",
}


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
        print_rows([_row(event) for event in found], _COLUMNS)


def _follow(events: Iterator[FeedEvent], output: Output) -> None:
    """Print events as they come, until the reader has enough."""
    try:
        for event in events:
            if output.is_data:
                typer.echo(json.dumps(event.as_json(), ensure_ascii=False))
            else:
                changes = ", ".join(_changes(event))
                what = ", ".join(event.kinds) or event.action
                said = f": {event.message}" if event.message else ""
                typer.echo(f"{format_time(event.created_at)} {event.actor}: {what} ({event.result}){said} [{changes}]")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _row(event: GroupEvent) -> dict[str, object]:
    shown = {key: getattr(event, key) for key in ("created_at", "actor", "action", "result", "message")}
    return {**shown, "change": "\n".join(_changes(event)), "known": _known(event)}


def _changes(event: GroupEvent) -> Iterator[str]:
    """Return what the event changed, in words."""
    before = event.before or {}
    for key, value in event.after.items():
        if before.get(key) != value and before:
            yield f"{key}: {before.get(key)} -> {value}"


def _known(event: GroupEvent) -> str:
    proof = event.proof
    loss = proof.failover.loss
    if loss is not None:
        cost = f"a failover loses {loss.description}"
    elif proof.failover.possible:
        cost = "a failover loses nothing"
    else:
        cost = f"no failover: {proof.failover.reason}"
    acknowledged, applied = proof.last_acknowledged_sequence, proof.last_applied_sequence
    return f"term {proof.term}, acknowledged {acknowledged}, applied {applied}; {cost}"
