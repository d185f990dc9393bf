"""What is shown before an action is done: its plan, and the question for the name of what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from twinsite.cli.asking import NotAdmitted, confirm_by_name

if TYPE_CHECKING:
    from twinsite.client.clients import Client
    from twinsite.client.models import Group
    from twinsite.client.overviews import ActionPlan


def ask_with_plan(
    api: Client, group: Group, action: str, *, force: bool = False, to: str | None = None, yes: bool = False
) -> str | None:
    """Show what an action would do, and let a person type the group's name; unless `yes`, or the action asks for none.

    Returns the site that the plan makes primary, for a move that was confirmed, else `to`: so that what is done is what
    was confirmed, whatever others do meanwhile. Raises `NotAdmitted` for an action that would be refused, and what
    `confirm_by_name` raises.
    """
    if yes:
        return to
    plan = api.plan_group(group.id, action, force=force, to=to)
    if action == "sync" and not plan.asks_for_name:
        return to
    print_plan(Console(stderr=True, highlight=False), plan)
    if not plan.allowed:
        hint = ". With --force it is done all the same, at the loss that is stated" if plan.needs_force else ""
        raise NotAdmitted(f"{(plan.reason or 'it would be refused').rstrip('.')}{hint}")
    name = group.name or group.id
    if plan.asks_for_name:
        confirm_by_name([name], f"{_title(plan)} now", yes)
    return plan.to_site or to


def print_plan(console: Console, plan: ActionPlan) -> None:
    """Print what an action would do, what it would lose, and what to do first."""
    console.print(Text(_title(plan), style="bold"))
    if not plan.allowed:
        console.print(Text(f"Refused: {plan.reason}", style="red"))
        if plan.needs_force:
            console.print("With --force it would be done:")
    elif not plan.due:
        console.print("It would be admitted, and change nothing.")
    else:
        console.print(Text("It would be done.", style="green"))
    _section(console, "First", [f"- {text}" for text in plan.first])
    _section(console, "What happens then", [f"{number}. {text}" for number, text in enumerate(plan.steps, start=1)])
    if plan.loss_text is not None:
        _section(console, "What is lost", [plan.loss_text], style="red")
    elif plan.allowed and plan.due and plan.action in ("failover", "reverse"):
        _section(console, "What is lost", ["Nothing."])
    if plan.hosts is not None:
        _section(console, "Afterwards", [plan.hosts])


def _section(console: Console, heading: str, lines: list[str], style: str = "") -> None:
    if lines:
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Padding(Text(line, style=style), (0, 0, 0, 2), expand=False))


_TITLES = {
    "failover": "Fail the group {name} over",
    "reverse": "Swap the sites of the group {name}",
    "reprotect": "Protect the group {name} again",
    "stop": "Pause the group {name}",
    "sync": "Synchronize the group {name}",
}


def _title(plan: ActionPlan) -> str:
    title = _TITLES.get(plan.action, f"{plan.action} {{name}}").format(name=plan.group_name or plan.group_id)
    return f"{title}, {plan.from_site} to {plan.to_site}" if plan.from_site and plan.to_site else title
