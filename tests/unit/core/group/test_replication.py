"""Primary and secondary machines together, over random histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.group.replication_world import World
from twinsite.core.group.flight import Token
from twinsite.core.group.states import Event, Phase
from twinsite.errors import PeerViolation

STEPS = 200
SEEDS_TO_CATCH_MAX = 150
"""A planted bug must be found within this many seeds."""


def run(world: World) -> None:
    """A history with faults, then recovery."""
    for _ in range(STEPS):
        world.step()
    world.heal()


@pytest.mark.parametrize("seed", range(40))
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
    """Do not mark unacknowledged frames dirty when going on alone."""
    machine: Any = world.machine
    machine._mark_dirty = lambda entries: None


def trust_any_image(world: World) -> None:
    """Resume or make a delta resync although the secondary may have lost writes."""
    machine: Any = world.machine
    honest = machine.connected

    def trusting(welcome: Any, new_generation: str) -> bool:
        known = welcome.generation in machine.generations
        return bool(
            honest(type(welcome)(welcome.term, welcome.generation, welcome.consistent, not known), new_generation)
        )

    machine.connected = trusting


def skip_the_grant(world: World) -> None:
    """Go on alone without asking when the stream breaks."""
    machine: Any = world.machine
    honest = machine.broken

    def impatient() -> None:
        honest()
        if machine.phase is Phase.HOLDING:
            machine.granted()

    machine.broken = impatient


def report_before_the_secondary_recorded(world: World) -> None:
    """Tell the arbiter that the secondary is in sync as soon as everything was sent."""
    machine: Any = world.machine
    honest = machine._finish_if_shipped

    def hasty() -> None:
        honest()
        if machine.phase is Phase.FINISHING:
            machine._enter(Event.RECORDED)
            machine._end_sequence = 0
            machine._flushed = lambda sequence: None

    machine._finish_if_shipped = hasty


def drop_what_must_be_sent_again(world: World) -> None:
    """Resume the stream without the frames that were in flight."""
    world.machine.flight.take_frames_to_resend = lambda acknowledged: []  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "plant",
    [
        tell_too_early,
        send_overtaken_reads,
        forget_what_was_in_flight,
        trust_any_image,
        skip_the_grant,
        report_before_the_secondary_recorded,
        drop_what_must_be_sent_again,
    ],
)
def test_the_checks_find_a_planted_bug(plant: Callable[[World], None]) -> None:
    for seed in range(SEEDS_TO_CATCH_MAX):
        world = World(seed)
        plant(world)
        try:
            run(world)
        except (AssertionError, PeerViolation):
            return
    pytest.fail(f"{plant.__name__} was not found in {SEEDS_TO_CATCH_MAX} seeds")
