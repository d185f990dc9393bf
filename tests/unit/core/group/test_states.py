"""Every phase of a primary with every event: where it leads, or that it must not happen."""

from __future__ import annotations

from itertools import product

import pytest

from twinsite.core.group.states import TRANSITIONS, Event, Phase, next_phase
from twinsite.errors import InternalError

#            CONNECTED   SHIPPED      RECORDED    STOPPED     DRAINED  BROKEN
EXPECTED = """
ALONE        COPYING     -            -           ALONE       -        ALONE
COPYING      -           FINISHING    -           DRAINING    -        ALONE
FINISHING    -           -            MIRRORED    DRAINING    -        ALONE
MIRRORED     -           -            -           DRAINING    -        ALONE
DRAINING     -           -            DRAINING    DRAINING    ALONE    ALONE
"""
EVENTS = [Event.CONNECTED, Event.SHIPPED, Event.RECORDED, Event.STOPPED, Event.DRAINED, Event.BROKEN]
CASES = [
    (Phase[row[0]], event, None if target == "-" else Phase[target])
    for row in (line.split() for line in EXPECTED.strip().splitlines())
    for event, target in zip(EVENTS, row[1:], strict=True)
]


def test_the_table_here_has_every_case() -> None:
    assert {(phase, event) for phase, event, _ in CASES} == set(product(Phase, Event))


@pytest.mark.parametrize("phase, event, expected", CASES, ids=lambda value: getattr(value, "name", "refused"))
def test_transition(phase: Phase, event: Event, expected: Phase | None) -> None:
    if expected is None:
        with pytest.raises(InternalError, match=phase.value):
            next_phase(phase, event)
    else:
        assert next_phase(phase, event) is expected


@pytest.mark.parametrize("phase", Phase)
def test_a_broken_connection_always_leads_to_going_on_alone(phase: Phase) -> None:
    assert next_phase(phase, Event.BROKEN) is Phase.ALONE


def test_mirroring_is_only_reached_through_a_recorded_end_of_a_resync() -> None:
    ways = [(phase, event) for (phase, event), target in TRANSITIONS.items() if target is Phase.MIRRORED]
    assert ways == [(Phase.FINISHING, Event.RECORDED)]
