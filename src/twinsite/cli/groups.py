"""`twinsite group …`: pairs that are replicated together, at one common point in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinsite.cli.asking import YesOption, confirm
from twinsite.cli.lookup import find
from twinsite.cli.models import Group, GroupReport
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
from twinsite.cli.output import Output, format_bytes, format_seconds, print_items, print_object
from twinsite.cli.pairs import find_pair
from twinsite.cli.progress import show_sync
from twinsite.cli.waiting import delete_all, follow_sync, wait_until_available

if TYPE_CHECKING:
    from twinsite.cli.client import ApiClient

group_app = typer.Typer(no_args_is_help=True)

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Name, id, or the beginning of an id.")]

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
    pairs: Annotated[list[str], typer.Option("--pair", metavar="PAIR", help="A pair; repeat it for more.")],
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
        found = [find_pair(api, pair) for pair in pairs]
        group = api.create_group(
            pair_ids=[pair["id"] for pair in found],
            priority_station=found[0]["priority_station"],
            name=name,
            description=description,
        )
        if wait:
            group = wait_until_available("group", group["id"], api.group, timeout)
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
        _print_group(output, _fresh(api, group))


@group_app.command("status")
def status(
    group: GroupArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Show what the replication of a group does, and what its last synchronization moved."""
    with open_api(data, cloud) as api:
        found = _fresh(api, group)
        rows: list[tuple[str, object]] = [
            ("Group", found["name"] or found["id"]),
            ("Status", found["status"]),
            ("Replication", found.get("replication_status")),
            ("Primary AZ", found["priority_station"]),
            ("Fault level", found.get("fault_level")),
            ("Failure", found.get("failure_detail")),
        ]
        report = found.get("twinsite")
        print_object(output, found, rows + (_report_rows(report) if report else []))


@group_app.command("sync")
def sync(
    group: GroupArgument,
    wait: WaitOption = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Longest wait; none by default.")
    ] = None,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Synchronize the data between the production disks and the DR disks of all pairs of a group."""
    with open_api(data, cloud) as api:
        group_id = find_group(api, group)["id"]
        api.sync_group(group_id)
        if not wait:
            return
        console = Console(highlight=False)
        with show_sync(console) as update:
            found = follow_sync(api, group_id, update, timeout)
        report = found.get("twinsite")
        for label, value in _resync_rows(report) if report else []:
            console.print(f"{label}: {value}")


@group_app.command("stop")
def stop(
    group: GroupArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Let a primary go on that says that it may lack acknowledged writes.")
    ] = False,
    yes: YesOption = False,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Pause the replication of a group at a common point in time. In force when this returns."""
    with open_api(data, cloud) as api:
        found = find_group(api, group)
        if force:
            confirm(f"Give up the acknowledged writes that only the DR side of group {group} may have?", yes)
        api.stop_group(found["id"], force=force)


@group_app.command("update")
def update_group(
    group: GroupArgument,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The new name.")] = None,
    description: DescriptionOption = None,
    add: Annotated[list[str] | None, typer.Option("--add-pair", metavar="PAIR", help="A pair to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove-pair", metavar="PAIR", help="A pair to remove.")] = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Rename a paused group, add pairs or remove them. Synchronize it afterwards."""
    with open_api(data, cloud) as api:
        changed = api.update_group(
            find_group(api, group)["id"],
            name=name,
            description=description,
            add_replication_ids=[find_pair(api, pair)["id"] for pair in add or []] or None,
            remove_replication_ids=[find_pair(api, pair)["id"] for pair in remove or []] or None,
        )
        if wait:
            changed = wait_until_available("group", changed["id"], api.group, timeout)
        _print_group(output, changed)


@group_app.command("delete")
def delete(
    groups: Annotated[list[str], typer.Argument(metavar="GROUP", help="Names, ids, or beginnings of ids.")],
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Delete groups that have no pairs left; 'twinsite group update --remove-pair' takes them out."""
    with open_api(data, cloud) as api:
        found = [find_group(api, group)["id"] for group in groups]
        delete_all("group", found, api.delete_group, api.group, timeout if wait else None)


def find_group(api: ApiClient, text: str) -> Group:
    """Return the group that `text` means. Raises `NotFound`."""
    return find("group", text, api.group, api.groups)


def _fresh(api: ApiClient, text: str) -> Group:
    # Only the object itself has the pairs and the report.
    return api.group(find_group(api, text)["id"])


def _print_group(output: Output, group: Group) -> None:
    print_object(
        output,
        group,
        [
            ("ID", group["id"]),
            ("Name", group["name"]),
            ("Description", group.get("description")),
            ("Status", group["status"]),
            ("Replication", group.get("replication_status")),
            ("Primary AZ", group["priority_station"]),
            ("Pairs", group.get("replication_ids")),
            ("Fault level", group.get("fault_level")),
            ("Failure", group.get("failure_detail")),
        ],
    )


def _report_rows(report: GroupReport) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("Mode", report.get("mode"))]
    failure = report.get("failure")
    if failure:
        rows.append(("Trouble", failure["message"]))
    if "failover" in report:
        rows += _proof_rows(report)
    progress = report.get("progress")
    if progress and report.get("mode") == "copying":
        amount = f"{format_bytes(progress['bytes_done'])} of {format_bytes(progress['bytes_total'])}"
        rate, left = progress["bytes_per_second"], progress["seconds_left"]
        rows.append(("Progress", f"{progress['percent'] or 0:.0f} %, {amount}"))
        rows.append(("Rate", f"{format_bytes(rate)}/s" if rate else None))
        rows.append(("Time left", format_seconds(left) if left is not None else None))
    dirty_bytes = report.get("dirty_bytes")
    rows.append(("Not yet at the DR site", None if dirty_bytes is None else format_bytes(dirty_bytes)))
    return rows + _resync_rows(report)


def _proof_rows(report: GroupReport) -> list[tuple[str, object]]:
    """Return what shows whether a failover would lose anything."""
    rows: list[tuple[str, object]] = [
        ("Term", f"{report['term']}, {report['primary_station']} is primary"),
        ("DR side", "in sync" if report["secondary"] == "in_sync" else f"stale since {report['stale_since']}"),
        ("In sync since", report.get("in_sync_since")),
    ]
    if report["holding_since"]:
        rows.append(("Writes wait since", report["holding_since"]))
    rows.append(("Last acknowledged", report["last_acknowledged_sequence"]))
    rows.append(("Last applied", report["last_applied_sequence"]))
    failover = report["failover"]
    rows.append(("Failover", "possible, loses nothing" if failover["possible"] else f"refused: {failover['reason']}"))
    return rows


def _resync_rows(report: GroupReport) -> list[tuple[str, object]]:
    resync = report.get("last_resync")
    if not resync:
        return []
    shipped, zero = format_bytes(resync["bytes_shipped"]), format_bytes(resync["bytes_zero"])
    covered = format_bytes(resync["bytes_total"])
    return [("Last synchronization", f"{resync['kind']}, {covered}: {shipped} sent, {zero} empty")]
