"""The table of an extension's steps, walked over every combination of facts."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from twinsite.control.lifecycle.extending import ExtendFacts, ExtendStep, next_step

EVERY = [
    ExtendFacts(*values) for values in itertools.product([False, True], repeat=len(dataclasses.fields(ExtendFacts)))
]


@pytest.mark.parametrize("facts", EVERY, ids=str)
def test_no_step_lets_a_write_land_beyond_the_end_of_a_twin(facts: ExtendFacts) -> None:
    step = next_step(facts)
    if step is ExtendStep.GROW_DR:
        assert facts.has_room
        assert not facts.dr_grown
    if step is ExtendStep.GROW_PRODUCTION:
        assert facts.dr_grown
        assert facts.secondary_in_force
    if step is ExtendStep.FINISH:
        assert facts.dr_grown
        assert facts.production_grown
        assert facts.secondary_in_force
        assert facts.primary_in_force
    if step is ExtendStep.UNDO:
        assert not facts.dr_grown
        assert not facts.production_grown
        assert facts.is_late or facts.is_refused


@pytest.mark.parametrize("facts", EVERY, ids=str)
def test_with_room_and_both_workers_every_extension_ends(facts: ExtendFacts) -> None:
    facts = dataclasses.replace(facts, has_room=True, secondary_in_force=True, primary_in_force=True)
    for _ in range(3):
        match next_step(facts):
            case ExtendStep.GROW_DR:
                facts = dataclasses.replace(facts, dr_grown=True)
            case ExtendStep.GROW_PRODUCTION:
                facts = dataclasses.replace(facts, production_grown=True)
            case step:
                assert step is ExtendStep.FINISH
    assert next_step(facts) is ExtendStep.FINISH
