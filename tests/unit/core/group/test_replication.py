"""Primary and secondary machines together, over random histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.group.replication_world import World
from twinsite.core.group.primary import Token

STEPS = 200
SEEDS_TO_CATCH_MAX = 40
"""A planted bug must be found within this many seeds."""


def run(world: World) -> None:
    """A history with faults, then recovery."""
    for _ in range(STEPS):
        world.step()
    world.heal()


@pytest.mark.parametrize("seed", range(60))
def test_random_history_keeps_every_promise_and_heals(seed: int) -> None:
    world = World(seed)
    print(f"seed {seed}")
    try:
        run(world)
    except BaseException:
        print("last steps:", *world.trace[-20:])
        raise


def tell_too_early(world: World) -> None:
    """Acknowledge a mirrored write before the secondary has it."""
    honest = world.machine.write_applied

    def hasty(index: int, offset: int, data: bytes | bytearray | memoryview, token: Token | None) -> None:
        honest(index, offset, data, None)
        if token is not None:
            world.machine.completed.append(token)

    world.machine.write_applied = hasty  # type: ignore[method-assign]


def send_overtaken_reads(world: World) -> None:
    """Let a resync send what a guest has overwritten meanwhile."""
    world.machine._overtake = lambda *_: None  # type: ignore[method-assign]


def forget_what_was_in_flight(world: World) -> None:
    """Do not mark unacknowledged frames dirty after a break."""
    machine: Any = world.machine
    honest = machine._end_session

    def forgetful() -> None:
        machine.completed.extend(entry.token for entry in machine._in_flight if entry.token is not None)
        machine._in_flight.clear()
        honest()

    machine._end_session = forgetful


def trust_any_generation(world: World) -> None:
    """Make only a delta resync although the secondary may have lost writes."""
    machine: Any = world.machine
    honest = machine.connected

    def trusting(welcome: Any, new_generation: str) -> None:
        known = welcome.generation in machine.generations
        honest(type(welcome)(welcome.term, welcome.generation, welcome.consistent, not known), new_generation)

    machine.connected = trusting


@pytest.mark.parametrize(
    "plant", [tell_too_early, send_overtaken_reads, forget_what_was_in_flight, trust_any_generation]
)
def test_the_checks_find_a_planted_bug(plant: Callable[[World], None]) -> None:
    for seed in range(SEEDS_TO_CATCH_MAX):
        world = World(seed)
        plant(world)
        try:
            run(world)
        except AssertionError:
            return
    pytest.fail(f"{plant.__name__} was not found in {SEEDS_TO_CATCH_MAX} seeds")
