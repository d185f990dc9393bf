"""`twinsite status`: sites and groups on one screen, with what is the matter and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from twinsite.cli.errors import EXIT_NOT_WELL
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, console_for_results, format_bytes, format_seconds, print_data

if TYPE_CHECKING:
    import datetime

    from twinsite.client.overviews import GroupOverview, Overview, SiteOverview

status_app = typer.Typer()

SEVERITIES = ("ok", "notice", "warning", "critical")
NEED_A_HAND = frozenset({"warning", "critical"})
_STYLES = {"ok": "green", "notice": "cyan", "warning": "yellow", "critical": "bold red"}
_MARKS = {"ok": "ok", "notice": "note", "warning": "WARNING", "critical": "CRITICAL"}


@status_app.command("status")
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 5 when a group needs a hand; for scripts and monitoring.")
    ] = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Show all sites and groups on one screen: what is the matter, and what to do about it; the worst first."""
    with open_api(data, cloud) as api:
        overview = api.overview()
    if output.is_data:
        print_data(output, overview.as_json())
    else:
        print_overview(console_for_results(), overview)
    if check and any(worst(group) in NEED_A_HAND for group in overview.groups):
        raise typer.Exit(EXIT_NOT_WELL)


def worst(group: GroupOverview) -> str:
    """Return how bad it is with a group."""
    return max((advice.severity for advice in group.advice), key=_rank, default="ok")


def _rank(severity: str) -> int:
    # What a newer API calls something worse is taken for the worst.
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def print_overview(console: Console, overview: Overview) -> None:
    """Print sites, groups, and below them what is the matter with those that are not well."""
    console.print(_site_table(overview.sites))
    console.print()
    groups = sorted(overview.groups, key=lambda group: (-_rank(worst(group)), group.name or "", group.id))
    if not groups:
        console.print("There are no groups. 'twinsite group create' makes one, of pairs.")
        return
    console.print(_group_table(groups))
    for group in groups:
        for advice in group.advice:
            if advice.severity != "ok":
                _print_advice(console, group, advice.severity, advice.text, advice.command)
    if all(worst(group) == "ok" for group in groups):
        console.print(Text("\nAll groups are in sync; any of them can be failed over without a loss.", style="green"))


def _print_advice(console: Console, group: GroupOverview, severity: str, text: str, command: str | None) -> None:
    line = Text("\n")
    line.append(_MARKS.get(severity, severity), style=_STYLES.get(severity, ""))
    line.append(f" {group.name or group.id}: ", style="bold")
    line.append(text)
    console.print(line)
    if command is not None:
        console.print(Padding(Text(f"$ {command}", style="bold"), (0, 0, 0, 4), expand=False))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _site_table(sites: list[SiteOverview]) -> Table:
    table = _table("Site", "State", "Node", "Primary of", "Free")
    for site in sites:
        state = Text(site.state, style="green" if site.connected else "bold red")
        if not site.connected and site.last_seen_at is not None:
            state.append(f", last seen {_clock(site.last_seen_at)}")
        free = "-"
        if site.pool_free_bytes is not None and site.pool_total_bytes:
            share = 100 * site.pool_free_bytes // site.pool_total_bytes
            free = f"{format_bytes(site.pool_free_bytes)} of {format_bytes(site.pool_total_bytes)} ({share} %)"
        table.add_row(Text(site.name, style="bold"), state, site.node_name or "-", _count(site.groups_primary), free)
    return table


def _count(groups: int) -> str:
    return f"{groups} group" if groups == 1 else f"{groups} groups"


def _group_table(groups: list[GroupOverview]) -> Table:
    table = _table("Group", "Direction", "Status", "Replication", "Since (UTC)", "Behind by", "Fault", "")
    for group in groups:
        severity = worst(group)
        table.add_row(
            Text(group.name or group.id, style="bold"),
            f"{group.primary_site} {_arrow(group)} {group.secondary_site}",
            group.status,
            _replication(group),
            _since(group),
            _behind(group),
            group.fault_level if group.fault_level != "0" else "-",
            Text(_MARKS.get(severity, severity), style=_STYLES.get(severity, "")),
        )
    return table


def _arrow(group: GroupOverview) -> str:
    if group.replication_status == "active":
        return "==>"
    return "-->" if group.replication_status == "copying" else "-/-"


def _replication(group: GroupOverview) -> str:
    if group.holding_since is not None:
        return f"{group.replication_status}, hosts wait"
    progress = group.progress
    if group.mode != "copying" or progress.percent is None:
        return group.replication_status
    left = f", {format_seconds(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    return f"copying {progress.percent} %{left}"


def _since(group: GroupOverview) -> str:
    moment = group.holding_since or group.stale_since or group.in_sync_since
    return "-" if moment is None else _clock(moment)


def _behind(group: GroupOverview) -> str:
    if group.replication_status == "active":
        return "nothing"
    return "-" if group.dirty_bytes is None else format_bytes(group.dirty_bytes)


def _clock(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
