"""The table of an extension's steps, walked over every combination of what can be known."""

from __future__ import annotations

import itertools

import pytest

from twinsite.control.lifecycle.volume_extending import VolumeExtendFacts, VolumeStep, next_step

COMBINATIONS = [VolumeExtendFacts(*values) for values in itertools.product((False, True), repeat=6)]


@pytest.mark.parametrize("facts", COMBINATIONS, ids=str)
def test_the_next_step(facts: VolumeExtendFacts) -> None:
    step = next_step(facts)
    if facts.is_grown:
        # Nobody who was told the new size is told the old one again.
        assert step in (VolumeStep.WAIT, VolumeStep.FINISH)
        waits = facts.is_attached and not facts.in_force and not facts.is_lost
        assert step is (VolumeStep.WAIT if waits else VolumeStep.FINISH)
    else:
        # Nobody is told a size for which there is no room.
        assert step is not VolumeStep.FINISH
        assert (step is VolumeStep.GROW) == (facts.has_room and not facts.is_lost)
        assert (step is VolumeStep.UNDO) == (facts.is_lost or (facts.is_failing and not facts.has_room))
