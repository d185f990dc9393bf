"""`twinsite pair …`: a production disk and its DR disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.asking import YesOption
from twinsite.cli.completing import complete_pair, complete_volume
from twinsite.cli.deleting import delete_all
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    DescriptionOption,
    NameArgument,
    OutputOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.output import Output, print_items, print_object
from twinsite.cli.progress import show_waiting

if TYPE_CHECKING:
    from twinsite.client.models import Pair

pair_app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "id": "ID",
    "name": "Name",
    "status": "Status",
    "replication_status": "Replication",
    "progress": "%",
    "priority_station": "Primary AZ",
    "replication_consistency_group_id": "Group",
}


@pair_app.command("create")
def create(
    production: Annotated[
        str,
        typer.Option(
            "--production", metavar="VOLUME", help="The volume that hosts use.", autocompletion=complete_volume
        ),
    ],
    disaster_recovery: Annotated[
        str, typer.Option("--dr", metavar="VOLUME", help="The volume that follows it.", autocompletion=complete_volume)
    ],
    name: NameArgument = None,
    description: DescriptionOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Pair two volumes of one size and type in two availability zones. What is on the DR volume will be overwritten."""
    with open_api(data, cloud) as api:
        primary, secondary = api.find_volume(production), api.find_volume(disaster_recovery)
        pair = api.create_pair(
            volume_ids=[primary.id, secondary.id],
            priority_station=primary.availability_zone,
            name=name,
            description=description,
        )
        if wait:
            with show_waiting() as update:
                pair = api.wait_for_pair(pair.id, timeout, progress=update)
        _print_pair(output, pair)


@pair_app.command("list")
def list_all(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """List all pairs."""
    with open_api(data, cloud) as api:
        print_items(output, api.pairs(), _COLUMNS)


@pair_app.command("show")
def show(
    pair: Annotated[
        str, typer.Argument(metavar="PAIR", help="Name, id, or the beginning of an id.", autocompletion=complete_pair)
    ],
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Show one pair."""
    with open_api(data, cloud) as api:
        _print_pair(output, api.find_pair(pair))


@pair_app.command("delete")
def delete(
    pairs: Annotated[
        list[str],
        typer.Argument(metavar="PAIR", help="Names, ids, or beginnings of ids.", autocompletion=complete_pair),
    ],
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Delete pairs that are in no group. Their volumes stay as they are."""
    with open_api(data, cloud) as api:
        found = [api.find_pair(pair) for pair in pairs]
        seconds = timeout if wait else None
        delete_all("pair", found, api.delete_pair, api.wait_until_pair_gone, seconds, yes=yes, output=output)


def _print_pair(output: Output, pair: Pair) -> None:
    print_object(
        output,
        pair,
        [
            ("ID", pair.id),
            ("Name", pair.name),
            ("Status", pair.status),
            ("Replication", pair.replication_status),
            ("Progress", None if pair.progress is None else f"{pair.progress} %"),
            ("Primary AZ", pair.priority_station),
            ("Volumes", pair.volume_ids),
            ("Group", pair.replication_consistency_group_id),
            ("Fault level", pair.fault_level),
            ("Failure", pair.failure_detail),
        ],
    )
