"""`twinsite group plan`: what an action would do, and what to do before it, without doing it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import CloudOption, DataOption, OutputOption, TargetOption, open_api
from twinsite.cli.output import Output, console_for_results, print_data
from twinsite.cli.planning import print_plan


class Action(StrEnum):
    """What can be planned."""

    FAIL_OVER = "failover"
    REVERSE = "reverse"
    REPROTECT = "reprotect"
    STOP = "stop"
    SYNC = "sync"


@group_app.command("plan")
def plan(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="failover, reverse, reprotect, stop or sync.")],
    group: GroupArgument,
    force: Annotated[bool, typer.Option("--force", help="Plan a failover or a stop with --force.")] = False,
    to: TargetOption = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Say what an action would do now, what would be lost, and what to do first. Nothing is done.

    Exits with 1 where the action would be refused.
    """
    with open_api(data, cloud) as api:
        found = api.plan_group(api.find_group(group).id, action.value, force=force, to=to)
    if output.is_data:
        print_data(output, found.as_json())
    else:
        print_plan(console_for_results(), found)
    if not found.allowed:
        raise typer.Exit(1)
