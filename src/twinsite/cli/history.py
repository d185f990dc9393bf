"""`twinsite group history`: what a group did in the last hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, format_bytes, print_object, print_rows
from twinsite.cli.top import format_latency

if TYPE_CHECKING:
    from twinsite.client.models import Sample

HISTORY_SECONDS_DEFAULT = 600
HISTORY_SECONDS_MAX = 3600
"""What the API keeps."""

_COLUMNS = {
    "at": "Time (UTC)",
    "writes": "Writes/s",
    "written": "Written",
    "read": "Read",
    "sent": "Sent",
    "ack": "Ack",
    "dirty": "Dirty",
    "resync": "To copy",
    "hold": "Hold",
}


@group_app.command("history")
def history(
    group: GroupArgument,
    seconds: Annotated[
        int, typer.Option("--seconds", min=1, max=HISTORY_SECONDS_MAX, help="How far back.")
    ] = HISTORY_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Show what a group did lately, every ten seconds a line, the oldest first; 'twinsite top' shows what it does now.

    Nothing is known of times at which the group's primary was not heard of, and of those before the controller started.
    """
    with open_api(data, cloud) as api:
        found = api.group_history(api.find_group(group).id, seconds)
    if output.is_data:
        print_object(output, found, [])
        return
    print_rows([_row(sample) for sample in found.samples], _COLUMNS)


def _row(sample: Sample) -> dict[str, object]:
    return {
        "at": f"{sample.at:%H:%M:%S}",
        "writes": f"{sample.writes_per_second:,.0f}",
        "written": f"{format_bytes(sample.write_bytes_per_second)}/s",
        "read": f"{format_bytes(sample.read_bytes_per_second)}/s",
        "sent": f"{format_bytes(sample.sent_bytes_per_second)}/s",
        "ack": None if sample.ack_seconds is None else format_latency(sample.ack_seconds),
        "dirty": format_bytes(sample.dirty_bytes),
        "resync": format_bytes(sample.resync_bytes_left) if sample.resync_bytes_left else None,
        "hold": "yes" if sample.holding else None,
    }
