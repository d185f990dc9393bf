"""Polling goes on while it pays, and is tried ever more rarely where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from twinsite.worker.polling import POLL_MISSES_MAX, POLL_SECONDS, AdaptivePolling


class Loop:
    """An event loop whose turns and whose clock the test moves. `seconds_a_turn` is what giving way takes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.seconds_a_turn = POLL_SECONDS / 10
        self.turns = 0
        self._next: Callable[[], None] | None = None
        self.polling = AdaptivePolling(cast(asyncio.AbstractEventLoop, self), lambda: self.now, self._give_way)

    def call_soon(self, call: Callable[[], None], *_: Any) -> None:
        assert self._next is None, "one turn is due at a time"
        self._next = call

    def _give_way(self) -> None:
        self.now += self.seconds_a_turn
        self.turns += 1

    def is_awake(self) -> bool:
        return self._next is not None

    def turn(self) -> None:
        call, self._next = self._next, None
        assert call is not None
        call()

    def sleep(self) -> int:
        """Turn until it would sleep; return how often."""
        turns = self.turns
        while self.is_awake():
            self.turn()
        return self.turns - turns


@pytest.fixture(name="loop")
def fixture_loop() -> Loop:
    return Loop()


def test_after_a_receive_it_polls_and_ends_by_itself(loop: Loop) -> None:
    loop.polling.received()
    assert loop.is_awake()
    assert 9 <= loop.sleep() <= 11


def test_every_receive_in_time_makes_it_go_on(loop: Loop) -> None:
    loop.polling.received()
    for _ in range(100):
        loop.turn()
        loop.polling.received()
    assert loop.now > 100.0 + 9 * POLL_SECONDS
    assert loop.is_awake()


def test_misses_make_it_rare_and_a_hit_makes_it_usual_again(loop: Loop) -> None:
    gaps = []
    for _ in range(POLL_MISSES_MAX + 3):
        count = 0
        while not loop.is_awake():
            loop.polling.received()
            count += 1
        gaps.append(count)
        loop.sleep()
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    while not loop.is_awake():
        loop.polling.received()
    loop.polling.received()
    loop.sleep()
    loop.polling.received()
    assert not loop.is_awake()
    loop.polling.received()
    assert loop.is_awake(), "one miss in a row"


def test_what_comes_after_others_had_the_processor_for_long_is_no_hit(loop: Loop) -> None:
    loop.seconds_a_turn = 2 * POLL_SECONDS
    loop.polling.received()
    loop.turn()
    loop.polling.received()
    loop.turn()
    assert not loop.is_awake()
    loop.polling.received()
    assert not loop.is_awake(), "that was a miss"
