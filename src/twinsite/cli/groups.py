"""`twinsite group …`: pairs that are replicated together, at one common point in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.asking import YesOption
from twinsite.cli.completing import complete_group, complete_pair
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
from twinsite.cli.output import (
    Output,
    console_for_progress,
    format_bytes,
    format_seconds,
    format_time,
    print_items,
    print_object,
)
from twinsite.cli.planning import ask_with_plan
from twinsite.cli.progress import show_sync, show_waiting

if TYPE_CHECKING:
    from twinsite.client.models import Group, GroupReport

group_app = typer.Typer(no_args_is_help=True)

GroupArgument = Annotated[
    str, typer.Argument(metavar="GROUP", help="Name, id, or the beginning of an id.", autocompletion=complete_group)
]

_COLUMNS = {
    "id": "ID",
    "name": "Name",
    "status": "Status",
    "replication_status": "Replication",
    "priority_station": "Primary AZ",
    "fault_level": "Fault level",
}


@group_app.command("create")
def create(
    pairs: Annotated[
        list[str],
        typer.Option("--pair", metavar="PAIR", help="A pair; repeat it for more.", autocompletion=complete_pair),
    ],
    name: NameArgument = None,
    description: DescriptionOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Group pairs of one direction. Nothing is copied before 'twinsite group sync'."""
    with open_api(data, cloud) as api:
        found = [api.find_pair(pair) for pair in pairs]
        group = api.create_group(
            pair_ids=[pair.id for pair in found],
            priority_station=found[0].priority_station,
            name=name,
            description=description,
        )
        if wait:
            with show_waiting() as update:
                group = api.wait_for_group(group.id, timeout, progress=update)
        _print_group(output, group)


@group_app.command("list")
def list_all(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """List all groups."""
    with open_api(data, cloud) as api:
        print_items(output, api.groups(), _COLUMNS)


@group_app.command("show")
def show(
    group: GroupArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Show one group."""
    with open_api(data, cloud) as api:
        _print_group(output, api.find_group(group))


@group_app.command("status")
def status(
    group: GroupArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Show what the replication of a group does, and what its last synchronization moved."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        rows: list[tuple[str, object]] = [
            ("Group", found.name or found.id),
            ("Status", found.status),
            ("Replication", found.replication_status),
            ("Primary AZ", found.priority_station),
            ("Fault level", found.fault_level),
            ("Failure", found.failure_detail),
        ]
        print_object(output, found, rows + (_report_rows(found.twinsite) if found.twinsite else []))


@group_app.command("sync")
def sync(
    group: GroupArgument,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Longest wait; none by default.")
    ] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Synchronize the data between the production disks and the DR disks of all pairs of a group.

    After a failover this is 'twinsite group reprotect', and asks for the group's name like it.
    """
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        ask_with_plan(api, found, "sync", yes=yes)
        group_id = found.id
        api.sync_group(group_id)
        if wait:
            with show_sync(console_for_progress(output)) as update:
                found = api.wait_for_sync(group_id, timeout, progress=update)
            console = console_for_progress(output)
            for label, value in _resync_rows(found.twinsite) if found.twinsite else []:
                console.print(f"{label}: {value}")
        if output.is_data:
            print_object(output, api.group(group_id), [])


@group_app.command("stop")
def stop(
    group: GroupArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Let a primary go on that says that it may lack acknowledged writes.")
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Pause the replication of a group at a common point in time. In force when this returns."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        ask_with_plan(api, found, "stop", force=force, yes=yes)
        api.stop_group(found.id, force=force)
        if output.is_data:
            print_object(output, api.group(found.id), [])


@group_app.command("update")
def update_group(
    group: GroupArgument,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The new name.")] = None,
    description: DescriptionOption = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add-pair", metavar="PAIR", help="A pair to add.", autocompletion=complete_pair),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove-pair", metavar="PAIR", help="A pair to remove.", autocompletion=complete_pair),
    ] = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Rename a paused group, add pairs or remove them. Synchronize it afterwards."""
    with open_api(data, cloud) as api:
        changed = api.update_group(
            api.find_group(group).id,
            name=name,
            description=description,
            add_pair_ids=[api.find_pair(pair).id for pair in add or []],
            remove_pair_ids=[api.find_pair(pair).id for pair in remove or []],
        )
        if wait:
            with show_waiting() as update:
                changed = api.wait_for_group(changed.id, timeout, progress=update)
        _print_group(output, changed)


@group_app.command("delete")
def delete(
    groups: Annotated[
        list[str],
        typer.Argument(metavar="GROUP", help="Names, ids, or beginnings of ids.", autocompletion=complete_group),
    ],
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Delete groups that have no pairs left; 'twinsite group update --remove-pair' takes them out."""
    with open_api(data, cloud) as api:
        found = [api.find_group(group) for group in groups]
        seconds = timeout if wait else None
        delete_all("group", found, api.delete_group, api.wait_until_group_gone, seconds, yes=yes, output=output)


def _print_group(output: Output, group: Group) -> None:
    print_object(
        output,
        group,
        [
            ("ID", group.id),
            ("Name", group.name),
            ("Description", group.description),
            ("Status", group.status),
            ("Replication", group.replication_status),
            ("Primary AZ", group.priority_station),
            ("Pairs", group.replication_ids),
            ("Fault level", group.fault_level),
            ("Failure", group.failure_detail),
            *([_failover_row(group.twinsite)] if group.twinsite else []),
        ],
    )


def _report_rows(report: GroupReport) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        (advice.severity.capitalize(), [advice.text, *([f"$ {advice.command}"] if advice.command else [])])
        for advice in report.advice
    ]
    rows.append(("Mode", report.mode))
    if report.failure is not None:
        rows.append(("Trouble", report.failure.message))
    rows += _proof_rows(report)
    progress = report.progress
    if report.mode == "copying":
        amount = f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_total)}"
        rate, left = progress.bytes_per_second, progress.seconds_left
        rows.append(("Progress", f"{progress.percent or 0} %, {amount}"))
        rows.append(("Rate", f"{format_bytes(rate)}/s" if rate else None))
        rows.append(("Time left", format_seconds(left) if left is not None else None))
    rows.append(("Not yet at the DR site", format_bytes(report.dirty_bytes)))
    return rows + _resync_rows(report)


def _proof_rows(report: GroupReport) -> list[tuple[str, object]]:
    """Return what shows whether a failover would lose anything."""
    since = format_time(report.stale_since) if report.stale_since is not None else None
    rows: list[tuple[str, object]] = [
        ("Term", f"{report.term}, {report.primary_station} is primary"),
        ("DR side", "in sync" if report.secondary == "in_sync" else f"stale since {since}"),
        ("In sync since", report.in_sync_since),
    ]
    if report.holding_since is not None:
        rows.append(("Writes wait since", report.holding_since))
    rows.append(("Last acknowledged", report.last_acknowledged_sequence))
    rows.append(("Last applied", report.last_applied_sequence))
    return [*rows, _failover_row(report)]


def _failover_row(report: GroupReport) -> tuple[str, object]:
    failover = report.failover
    return "Failover", "possible, loses nothing" if failover.possible else f"refused: {failover.reason}"


def _resync_rows(report: GroupReport) -> list[tuple[str, object]]:
    resync = report.last_resync
    if resync is None:
        return []
    shipped, zero = format_bytes(resync.bytes_shipped), format_bytes(resync.bytes_zero)
    covered = format_bytes(resync.bytes_total)
    return [("Last synchronization", f"{resync.kind}, {covered}: {shipped} sent, {zero} empty")]
