"""What an event is, in words that can be filtered by: derived from what was done and from before and after. Pure.

An event has every kind that fits it. The table of docs/events.md says what each means and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

State = Mapping[str, Any]

Observed = Literal["observed"]
OBSERVED: Observed = "observed"
"""The action of an event that nobody asked for, and that is no move."""
Action = Literal[
    "create",
    "update",
    "sync",
    "stop",
    "failover",
    "reverse",
    "reprotect",
    "extend",
    "delete",
    "restored",
    "action",
]
"""What is done to a group; an event of it has its name as a kind. `action` is one that there is not."""
ACTIONS: tuple[Action, ...] = get_args(Action)
RESULTS = ("refused", "failed")
"""Results that are kinds of their own."""
TEST = "test"
"""The kind of what a webhook's test delivers; no event has it."""


def _turned(key: str, *values: object) -> Callable[[State, State], bool]:
    """Say whether something became one of these values that was none of them."""
    return lambda before, after: after.get(key) in values and before.get(key) not in values


def _left(key: str, *values: object) -> Callable[[State, State], bool]:
    turned = _turned(key, *values)
    return lambda before, after: turned(after, before)


def _gained(key: str) -> Callable[[State, State], bool]:
    return lambda before, after: bool(set(after.get(key) or ()) - set(before.get(key) or ()))


def _lost(key: str) -> Callable[[State, State], bool]:
    gained = _gained(key)
    return lambda before, after: gained(after, before)


def _is_interrupted(before: State, after: State) -> bool:
    was_well, is_ill = ("active", "copying"), ("inactive", "error")
    wanted = after.get("replication") != "paused"
    return wanted and before.get("replication_status") in was_well and after.get("replication_status") in is_ill


CHANGES: Mapping[str, Callable[[State, State], bool]] = MappingProxyType(
    {
        "copying": _turned("replication_status", "copying"),
        "in_sync": _turned("replication_status", "active"),
        "interrupted": _is_interrupted,
        "paused": _turned("replication", "paused"),
        "hold_began": _turned("holding", True),
        "hold_ended": _left("holding", True),
        "failover_possible": _turned("failover_possible", True),
        "failover_impossible": _left("failover_possible", True),
        "production_fault": _turned("fault_level", "2"),
        "link_fault": _turned("fault_level", "5"),
        "fault_cleared": lambda before, after: before.get("fault_level") in ("2", "5") and after["fault_level"] == "0",
        "site_lost": _lost("connected"),
        "site_back": _gained("connected"),
        "disk_failed": _gained("failing_disks"),
        "disk_recovered": _lost("failing_disks"),
        "moved": lambda before, after: before.get("primary_station") not in (None, after.get("primary_station")),
        "group_error": lambda before, after: _is_error(after) and not _is_error(before),
    }
)
"""What can change, by the kind of its event. A key that one of the states lacks says nothing."""


def _is_error(state: State) -> bool:
    return str(state.get("status")).startswith("error")


KINDS = frozenset({*ACTIONS, *RESULTS, *CHANGES, TEST})
"""Every kind that there is."""


def action_of(operation: str) -> Action:
    """Return the action that the name of a rule of policy is for: that of `…:stop` is `stop`."""
    name = operation.partition(":")[2]
    return next((action for action in ACTIONS if action == name), "action")


def kinds_of(action: str, result: str, before: State | None, after: State) -> list[str]:
    """Return the kinds of an event, in the order of the tables above. `before` is None for a group's first event."""
    kinds = [action] if action != OBSERVED else []
    kinds += [result] if result in RESULTS else []
    if before is not None:
        # What an older release did not record is taken not to have changed.
        known = {**{key: after.get(key) for key in after if key not in before}, **before}
        kinds += [kind for kind, happened in CHANGES.items() if happened(known, after)]
    return kinds
