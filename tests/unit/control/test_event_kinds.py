"""What kinds an event has: each change on its own, and none where nothing changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.tables import table_under
from twinsite.api.auditing import GROUP_PARAMETER, READING_METHODS
from twinsite.control.lifecycle.event_kinds import ACTIONS, CHANGES, KINDS, OBSERVED, TEST, action_of, kinds_of
from twinsite.control.policy.rules import RULES, operations_of

CALM: dict[str, Any] = {
    "status": "available",
    "replication": "running",
    "replication_status": "active",
    "fault_level": "0",
    "holding": False,
    "primary_station": "az1",
    "term": 3,
    "secondary": "in_sync",
    "pairs": 1,
    "size_gib": 1,
    "failover_possible": True,
    "connected": ["az1", "az2"],
    "failing_disks": [],
}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("copying", {"replication_status": "inactive"}, {"replication_status": "copying"}),
    ("in_sync", {"replication_status": "copying"}, {"replication_status": "active"}),
    ("interrupted", {"replication_status": "active"}, {"replication_status": "inactive"}),
    ("interrupted", {"replication_status": "copying"}, {"replication_status": "error"}),
    ("paused", {"replication": "running"}, {"replication": "paused"}),
    ("hold_began", {"holding": False}, {"holding": True}),
    ("hold_ended", {"holding": True}, {"holding": False}),
    ("failover_possible", {"failover_possible": False}, {"failover_possible": True}),
    ("failover_impossible", {"failover_possible": True}, {"failover_possible": False}),
    ("production_fault", {"fault_level": "0"}, {"fault_level": "2"}),
    ("link_fault", {"fault_level": "2"}, {"fault_level": "5"}),
    ("fault_cleared", {"fault_level": "5"}, {"fault_level": "0"}),
    ("site_lost", {"connected": ["az1", "az2"]}, {"connected": ["az1"]}),
    ("site_back", {"connected": []}, {"connected": ["az2"]}),
    ("disk_failed", {"failing_disks": ["a"]}, {"failing_disks": ["a", "b"]}),
    ("disk_recovered", {"failing_disks": ["a", "b"]}, {"failing_disks": ["b"]}),
    ("moved", {"primary_station": "az1"}, {"primary_station": "az2"}),
    ("group_error", {"status": "failovering"}, {"status": "error_failovering"}),
]


@pytest.mark.parametrize(("kind", "before", "after"), CASES)
def test_each_change_has_its_kind_and_no_other(kind: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert kinds_of(OBSERVED, "done", {**CALM, **before}, {**CALM, **after}) == [kind]


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _, _ in CASES} == set(CHANGES)
    assert set(CHANGES) < KINDS


def test_nothing_changed_is_no_kind() -> None:
    assert kinds_of(OBSERVED, "done", CALM, CALM) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_what_was_asked_for_comes_first(action: str) -> None:
    assert kinds_of(action, "accepted", None, CALM) == [action]
    assert kinds_of(action, "refused", CALM, CALM) == [action, "refused"]
    moved = {**CALM, "primary_station": "az2"}
    assert kinds_of(action, "failed", CALM, moved) == [action, "failed", "moved"]


def test_a_pause_that_was_asked_for_is_no_interruption() -> None:
    after = {**CALM, "replication": "paused", "replication_status": "inactive"}
    assert kinds_of("stop", "accepted", CALM, after) == ["stop", "paused"]


def test_what_an_older_release_did_not_record_has_not_changed() -> None:
    new = ("failover_possible", "connected", "failing_disks")
    before = {key: value for key, value in CALM.items() if key not in new}
    assert kinds_of(OBSERVED, "done", before, {**CALM, "holding": True}) == ["hold_began"]


def test_the_guide_explains_every_kind() -> None:
    rows = table_under(Path("docs/events.md"), "### Kinds")
    explained = [kind for row in rows for kind in re.findall(r"`(\w+)`", row[0])]
    assert sorted(explained) == sorted(KINDS - {TEST}), "each once; what a test delivers is explained with webhooks"


def test_what_is_asked_of_a_group_has_its_own_kind() -> None:
    asked = {
        rule.name
        for rule in RULES
        for method, path in operations_of(rule)
        if f"{{{GROUP_PARAMETER}}}" in path and method not in READING_METHODS
    }
    assert {action_of(name) for name in asked} == set(ACTIONS) - {"create", "restored", "action"}
    assert all(name.endswith(f":{action_of(name)}") for name in asked)
    assert action_of("replication_consistency_groups:action") == "action"
