"""`twinsite group failover|reverse|reprotect`: move a group between its sites, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinsite.cli.asking import YesOption, confirm
from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.progress import show_sync
from twinsite.errors import PeerViolation

if TYPE_CHECKING:
    from twinsite.client.models import Group, GroupReport


@group_app.command("failover")
def failover(
    group: GroupArgument,
    force: Annotated[bool, typer.Option("--force", help="Accept the loss that 'group status' states.")] = False,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Make the DR side primary, for when the primary site is lost. Promoted for good when this returns."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        target = _other_site(found)
        question = f"Make {target} the primary site of group {_name(found)}? Hosts in {found.priority_station} are "
        confirm(f"{question}cut off.{_loss(found) if force else ''}", yes)
        api.failover_group(found.id, force=force)
        if wait:
            found = api.wait_for_group(found.id, timeout, wanted=("failovered",))
            typer.echo(f"{target} is primary (term {_report(found).term}). Protect the group again with:")
            typer.echo(f"  twinsite group reprotect {found.name or found.id}")


@group_app.command("reverse")
def reverse(
    group: GroupArgument,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Swap the two sites of an active group, as planned and without a loss. Hosts connect on the other side then."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        target = _other_site(found)
        confirm(f"Move group {_name(found)} from {found.priority_station} to {target}?", yes)
        api.reverse_group(found.id)
        if wait:
            found = api.wait_for_group(found.id, timeout)
            typer.echo(f"{found.priority_station} is primary (term {_report(found).term})")


@group_app.command("reprotect")
def reprotect(
    group: GroupArgument,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """After a failover: replicate from the new primary. What the other site holds beyond that is overwritten."""
    with open_api(data, cloud) as api:
        found = api.find_group(group)
        source, target = found.priority_station, _other_site(found)
        confirm(
            f"Replicate group {_name(found)} from {source} to {target}? What differs in {target} is overwritten.", yes
        )
        api.reprotect_group(found.id)
        if wait:
            with show_sync(Console(highlight=False)) as update:
                api.wait_for_sync(found.id, timeout, progress=update)


def _name(group: Group) -> str:
    return repr(group.name or group.id)


def _other_site(group: Group) -> str:
    return _report(group).secondary_station


def _report(group: Group) -> GroupReport:
    if group.twinsite is None:
        raise PeerViolation(f"the API does not tell what the group {group.id} does; is it Twinsite's?")
    return group.twinsite


def _loss(group: Group) -> str:
    loss = _report(group).failover.loss
    return "" if loss is None else f" Lost will be {loss.description}."
