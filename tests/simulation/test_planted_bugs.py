"""The checkers bite: each planted bug is found within a bounded number of worlds, which hold without it."""

from __future__ import annotations

import pytest

from tests.simulation.found_before import FOUND_BEFORE
from tests.simulation.plants import PLANTS, Plant
from tests.simulation.plants_of_disks import PLANTS_OF_DISKS
from tests.simulation.plants_of_moves import PLANTS_OF_MOVES
from twinsite_sim.world import run_world

WORLDS_MAX = 150
"""A planted bug must be found within so many worlds."""
WORLDS_MAX_OF = {"take_any_word_for_an_answer": 1000}
"""Of the ones that need luck: here a grant on its way in the moment in which a database is restored."""


@pytest.mark.parametrize(
    ("plant", "focus"),
    [pytest.param(*entry, id=entry[0].__name__) for entry in PLANTS + PLANTS_OF_MOVES + PLANTS_OF_DISKS],
)
def test_a_planted_bug_is_found(plant: Plant, focus: frozenset[str]) -> None:
    seeds = range(1, WORLDS_MAX_OF.get(plant.__name__, WORLDS_MAX) + 1)
    first = FOUND_BEFORE.get(plant.__name__, seeds[0])
    assert first in seeds
    for seed in (first, *(seed for seed in seeds if seed != first)):
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            failure = run_world(seed, focus).failure
        if failure is not None:
            print(f"found with seed {seed}: {failure}")
            assert run_world(seed, focus).failure is None, "the world fails without the planted bug too"
            return
    pytest.fail(f"{plant.__name__} was not found in {len(seeds)} worlds")
