"""Primary and secondary machines together, over random histories."""

from __future__ import annotations

import pytest

from tests.unit.core.group.replication_world import World

STEPS = 200


@pytest.mark.parametrize("seed", range(60))
def test_random_history_keeps_every_promise_and_heals(seed: int) -> None:
    world = World(seed)
    print(f"seed {seed}")
    try:
        for _ in range(STEPS):
            world.step()
        world.heal()
    except BaseException:
        print("last steps:", *world.trace[-20:])
        raise


def test_the_checks_bite_when_a_write_is_told_too_early() -> None:
    """A primary that acknowledges a mirrored write before the secondary has it must be caught."""
    caught = 0
    for seed in range(20):
        world = World(seed)
        honest = world.machine.write_applied

        def hasty(index, offset, data, token, world=world, honest=honest):  # type: ignore[no-untyped-def]
            honest(index, offset, data, None)
            if token is not None and token not in world.machine.completed:
                world.machine.completed.append(token)

        world.machine.write_applied = hasty  # type: ignore[method-assign]
        try:
            for _ in range(STEPS):
                world.step()
        except AssertionError:
            caught += 1
    assert caught > 5


def test_the_checks_bite_when_an_overtaken_read_is_sent() -> None:
    """A resync that sends what a guest has overwritten meanwhile must be caught."""
    caught = 0
    for seed in range(40):
        world = World(seed)
        world.machine._overtake = lambda index, offset, length: None  # type: ignore[method-assign]
        try:
            for _ in range(STEPS):
                world.step()
            world.heal()
        except AssertionError:
            caught += 1
    assert caught > 5


def test_the_checks_bite_when_what_was_in_flight_is_forgotten() -> None:
    """A primary that does not mark unacknowledged frames dirty after a break must be caught."""
    caught = 0
    for seed in range(40):
        world = World(seed)
        honest = world.machine._end_session

        def forgetful(world=world, honest=honest):  # type: ignore[no-untyped-def]
            for entry in world.machine._in_flight:
                if entry.token is not None:
                    world.machine.completed.append(entry.token)
            world.machine._in_flight.clear()
            honest()

        world.machine._end_session = forgetful  # type: ignore[method-assign]
        try:
            for _ in range(STEPS):
                world.step()
            world.heal()
        except AssertionError:
            caught += 1
    assert caught > 5
