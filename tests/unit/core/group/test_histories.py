"""Both roles at both sites over random histories with promotions: one history, whoever is primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.group import moving_world
from tests.unit.core.group.moving_world import MovingWorld
from twinsite.core.group.primary import Primary
from twinsite.core.group.states import Phase
from twinsite.errors import PeerViolation
from twinsite.worker.starting import remember_clean_stop, remember_primary

STEPS = 400
SEEDS_TO_CATCH_MAX = 150
"""A planted bug must be found within this many seeds."""


def run(world: MovingWorld) -> None:
    """A history with faults and promotions, then recovery."""
    for _ in range(STEPS):
        world.step()
    world.heal()


@pytest.mark.parametrize("seed", range(60))
def test_every_promoted_site_shows_all_that_was_ever_answered(seed: int) -> None:
    world = MovingWorld(seed)
    print(f"seed {seed}")
    try:
        run(world)
    except BaseException:
        print("last steps:", *world.trace[-20:])
        raise


def test_the_histories_do_promote_and_switch() -> None:
    worlds = [MovingWorld(seed) for seed in range(20)]
    for world in worlds:
        run(world)
    assert sum(world.promotions for world in worlds) >= 10
    assert sum(world.switches for world in worlds) >= 5


Plant = Callable[[pytest.MonkeyPatch], None]


def claim_the_lineage_with_differences(patch: pytest.MonkeyPatch) -> None:
    """Claim to be equal although something was in flight when the role ended."""
    honest = remember_clean_stop

    def claiming(state: Any, machine: Any) -> None:
        honest(state, machine)
        if machine.generations:
            state.generation, state.is_consistent = max(machine.generations), True

    patch.setattr(moving_world, "remember_clean_stop", claiming)


def keep_the_claim_while_leading(patch: pytest.MonkeyPatch) -> None:
    """Go on to claim the lineage of the time as secondary after having led."""
    honest = remember_primary

    def forgetful(state: Any, start: Any, boot_id: str) -> None:
        before = state.generation, state.is_consistent
        honest(state, start, boot_id)
        state.generation, state.is_consistent = before

    patch.setattr(moving_world, "remember_primary", forgetful)


def keep_maps_while_following(patch: pytest.MonkeyPatch) -> None:
    """Believe after a time as secondary what was saved before it."""
    patch.setattr(moving_world, "remember_secondary", lambda state, images, boot_id: None)


def answer_although_replaced(patch: pytest.MonkeyPatch) -> None:
    """Go on alone when the stream breaks, without a grant."""

    class Impatient(Primary):
        def broken(self) -> None:
            super().broken()
            if self.phase is Phase.HOLDING:
                self.granted()

    patch.setattr(moving_world, "Primary", Impatient)


@pytest.mark.parametrize(
    "plant",
    [
        claim_the_lineage_with_differences,
        keep_the_claim_while_leading,
        keep_maps_while_following,
        answer_although_replaced,
    ],
)
def test_the_checks_find_a_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS_TO_CATCH_MAX):
        try:
            run(MovingWorld(seed))
        except (AssertionError, PeerViolation):
            return
    pytest.fail(f"{plant.__name__} was not found in {SEEDS_TO_CATCH_MAX} seeds")
