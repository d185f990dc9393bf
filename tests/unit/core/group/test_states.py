"""Every phase of a primary with every event: where it leads, or that it must not happen."""

from __future__ import annotations

from itertools import product

import pytest

from twinsite.core.group.states import MIRRORING, TRANSITIONS, Event, Phase, next_phase
from twinsite.errors import InternalError

EXPECTED = """
           CONNECTED RESUMED  HEALS   HEALED   SHIPPED   RECORDED STOPPED  WANTED    DRAINED BROKEN   GRANTED   REPLACED
ALONE      COPYING   -        -       -        -         -        ALONE    ALONE     -       ALONE    ALONE     REPLACED
COPYING    -         -        -       -        FINISHING -        DRAINING COPYING   -       ALONE    COPYING   REPLACED
FINISHING  -         -        -       -        -         MIRRORED DRAINING FINISHING -       ALONE    FINISHING REPLACED
MIRRORED   -         -        -       -        -         -        STOPPING MIRRORED  -       HOLDING  MIRRORED  REPLACED
STOPPING   -         -        -       -        -         -        STOPPING MIRRORED  -       HOLDING  DRAINING  REPLACED
DRAINING   -         -        -       -        -         DRAINING DRAINING DRAINING  ALONE   ALONE    DRAINING  REPLACED
HOLDING    -         MIRRORED HEALING -        -         -        HOLDING  HOLDING   -       HOLDING  ALONE     REPLACED
HEALING    -         -        -       MIRRORED -         -        HOLDING  HEALING   -       HOLDING  ALONE     REPLACED
REPLACED   -         -        -       -        -         -        REPLACED REPLACED  -       REPLACED REPLACED  REPLACED
"""
HEAD, *ROWS = [line.split() for line in EXPECTED.strip().splitlines()]
CASES = [
    (Phase[row[0]], Event[event], None if target == "-" else Phase[target])
    for row in ROWS
    for event, target in zip(HEAD, row[1:], strict=True)
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


MAY_BE_RECORDED = {Phase.MIRRORED, Phase.STOPPING, Phase.HOLDING, Phase.HEALING}
"""Phases in which the arbiter may have the secondary as in sync."""


@pytest.mark.parametrize("phase", Phase)
def test_a_break_leads_to_going_on_alone_only_where_the_secondary_is_known_to_be_stale(phase: Phase) -> None:
    after = next_phase(phase, Event.BROKEN)
    if phase is Phase.REPLACED:
        assert after is Phase.REPLACED
    else:
        assert after is (Phase.HOLDING if phase in MAY_BE_RECORDED else Phase.ALONE)


def test_only_a_grant_ends_the_waiting_for_a_secondary_that_may_be_recorded() -> None:
    ways = {
        event
        for (phase, event), target in TRANSITIONS.items()
        if phase in MAY_BE_RECORDED and target not in MIRRORING and target is not Phase.REPLACED
    }
    assert ways == {Event.GRANTED}


def test_mirroring_is_only_reached_through_a_recorded_end_of_a_resync_or_from_where_every_write_waited() -> None:
    ways = {(phase, event) for (phase, event), target in TRANSITIONS.items() if target is Phase.MIRRORED}
    assert {phase for phase, _ in ways} <= MIRRORING
    assert {(phase, event) for phase, event in ways if phase not in MAY_BE_RECORDED} == {
        (Phase.FINISHING, Event.RECORDED)
    }


def test_who_was_replaced_stays_so() -> None:
    assert {target for (phase, _), target in TRANSITIONS.items() if phase is Phase.REPLACED} == {Phase.REPLACED}
