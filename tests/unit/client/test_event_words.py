"""What people read of an event: the same words on the command line and on the page."""

from __future__ import annotations

from typing import Any

import pytest

from twinsite.client.event_words import HAPPENINGS, Change, changes, heading, known, outcome, told_by
from twinsite.client.models import GroupEvent
from twinsite.control.lifecycle.event_kinds import CHANGES

PROOF = {
    "term": 3,
    "primary_station": "az1",
    "secondary_station": "az2",
    "secondary": "in_sync",
    "stale_since": None,
    "in_sync_since": None,
    "holding_since": None,
    "last_acknowledged_sequence": 63,
    "last_applied_sequence": 75,
    "failover": {"possible": True, "reason": None, "loss": None},
}


def event(action: str = "observed", result: str = "done", **fields: Any) -> GroupEvent:
    """Return an event as the API tells it."""
    return GroupEvent.model_validate(
        {
            "id": "e-1",
            "group_id": "g-1",
            "number": 1,
            "created_at": "2026-11-24T12:00:00.000000",
            "kinds": [],
            "actor": "node of az1",
            "user_id": None,
            "request_id": None,
            "message": None,
            "action": action,
            "result": result,
            "before": None,
            "after": {},
            "proof": PROOF,
            **fields,
        }
    )


def test_every_kind_of_happening_has_words() -> None:
    assert set(HAPPENINGS) == set(CHANGES)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            event(kinds=["hold_began", "production_fault"]),
            "hosts wait, production is lost or fails, seen by node of az1",
        ),
        (event(), "a change, seen by node of az1"),
        (event(kinds=["of_tomorrow"]), "of tomorrow, seen by node of az1"),
        (event(kinds=["failed"], result="failed"), "a change, seen by node of az1: failed"),
        (event("failover", "accepted", actor="admin", kinds=["failover", "moved"]), "failover, by admin: accepted"),
        (event("failover", "refused", actor="admin"), "failover, by admin: refused"),
    ],
)
def test_what_happened_and_who_tells_it(shown: GroupEvent, words: str) -> None:
    result = outcome(shown)
    assert f"{heading(shown)}, {told_by(shown)}{'' if result is None else f': {result}'}" == words


def test_no_change_is_told_as_a_program_would_write_it() -> None:
    before = {"connected": ["az2"], "holding": False, "secondary": "in_sync", "fault_level": "5", "term": 3, "pairs": 1}
    after = {
        "connected": ["az1", "az2"],
        "holding": True,
        "secondary": "stale",
        "fault_level": "0",
        "term": 4,
        "new": [],
    }
    assert changes(event(before=before, after={**after, "pairs": 1})) == [
        Change("term", "3", "4"),
        Change("DR side", "in sync", "stale"),
        Change("hosts wait", "no", "yes"),
        Change("connected sites", "az2", "az1, az2"),
        Change("fault", "5, the link", "none"),
        Change("new", "unknown", "none"),
    ]
    assert changes(event(before=None, after=after)) == []


def test_what_was_known_is_told_with_its_numbers() -> None:
    assert known(event()) == "a failover would have lost nothing (term 3, acknowledged 63, applied 75)"
    unheard = event(proof={**PROOF, "last_applied_sequence": None})
    assert known(unheard).endswith("(term 3, acknowledged 63, applied unknown)")
