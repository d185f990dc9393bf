"""`twinsite group failover|reverse|reprotect`: move a group between its sites, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.asking import YesOption
from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    OutputOption,
    TargetOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.output import Output, console_for_progress, print_object
from twinsite.cli.planning import ask_with_plan
from twinsite.cli.progress import show_status, show_sync
from twinsite.errors import PeerViolation

if TYPE_CHECKING:
    from twinsite.client.models import Group, GroupReport


@group_app.command("failover")
def failover(
    group: GroupArgument,
    force: Annotated[bool, typer.Option("--force", help="Accept the loss that the plan states.")] = False,
    to: TargetOption = None,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Make the DR side primary, for when the primary site is lost. Promoted for good when this returns.

    Shows its plan before ('twinsite group plan failover'), and asks for the group's name.
    """
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        target = ask_with_plan(api, found, "failover", force=force, to=to, yes=yes)
        api.failover_group(found.id, force=force, to=target)
        if wait:
            with show_status(console_for_progress(output)) as update:
                wanted = ("failovered", "available")
                found = api.wait_for_group(found.id, timeout, wanted=wanted, progress=update)
            _say_primary(output, found)
            if not output.is_data and found.status == "failovered":
                typer.echo("Protect the group again with:")
                typer.echo(f"  twinsite group reprotect {found.name or found.id}")
        if output.is_data:
            print_object(output, api.group(found.id), [])


@group_app.command("reverse")
def reverse(
    group: GroupArgument,
    to: TargetOption = None,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Swap the two sites of an active group, as planned and without a loss. Hosts connect on the other side then."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        target = ask_with_plan(api, found, "reverse", to=to, yes=yes)
        api.reverse_group(found.id, to=target)
        if wait:
            with show_status(console_for_progress(output)) as update:
                found = api.wait_for_group(found.id, timeout, progress=update)
            _say_primary(output, found)
        if output.is_data:
            print_object(output, api.group(found.id), [])


@group_app.command("reprotect")
def reprotect(
    group: GroupArgument,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """After a failover: replicate from the new primary. What the other site holds beyond that is overwritten."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        ask_with_plan(api, found, "reprotect", yes=yes)
        api.reprotect_group(found.id)
        if wait:
            with show_sync(console_for_progress(output)) as update:
                api.wait_for_sync(found.id, timeout, progress=update)
        if output.is_data:
            print_object(output, api.group(found.id), [])


def _say_primary(output: Output, group: Group) -> None:
    if not output.is_data:
        typer.echo(f"{group.priority_station} is primary (term {_report(group).term})")


def _report(group: Group) -> GroupReport:
    if group.twinsite is None:
        raise PeerViolation(f"the API does not tell what the group {group.id} does; is it Twinsite's?")
    return group.twinsite
