"""`twinsite group failover|reverse|reprotect`: move a group between its sites, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinsite.cli.asking import YesOption, confirm
from twinsite.cli.groups import GroupArgument, find_group, group_app
from twinsite.cli.models import Group
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.progress import show_sync
from twinsite.cli.waiting import follow_sync, wait_until_status

if TYPE_CHECKING:
    from twinsite.cli.client import ApiClient


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
        found = _fresh(api, group)
        target = _other_site(found)
        question = f"Make {target} the primary site of group {_name(found)}? Hosts in {found['priority_station']} are "
        confirm(f"{question}cut off.{_loss(found) if force else ''}", yes)
        api.failover_group(found["id"], force=force)
        if wait:
            found = wait_until_status("group", found["id"], api.group, {"failovered"}, timeout)
            typer.echo(f"{target} is primary (term {found['twinsite']['term']}). Protect the group again with:")
            typer.echo(f"  twinsite group reprotect {found['name'] or found['id']}")


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
        found = _fresh(api, group)
        target = _other_site(found)
        confirm(f"Move group {_name(found)} from {found['priority_station']} to {target}?", yes)
        api.reverse_group(found["id"])
        if wait:
            found = wait_until_status("group", found["id"], api.group, {"available"}, timeout)
            typer.echo(f"{found['priority_station']} is primary (term {found['twinsite']['term']})")


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
        found = _fresh(api, group)
        source, target = found["priority_station"], _other_site(found)
        confirm(
            f"Replicate group {_name(found)} from {source} to {target}? What differs in {target} is overwritten.", yes
        )
        api.reprotect_group(found["id"])
        if wait:
            with show_sync(Console(highlight=False)) as update:
                follow_sync(api, found["id"], update, timeout)


def _fresh(api: ApiClient, text: str) -> Group:
    return api.group(find_group(api, text)["id"])


def _name(group: Group) -> str:
    return repr(group["name"] or group["id"])


def _other_site(group: Group) -> str:
    return group["twinsite"]["secondary_station"]


def _loss(group: Group) -> str:
    loss = group["twinsite"]["failover"]["loss"]
    if loss is None:
        return ""
    return f" Lost will be {loss['description']}."
