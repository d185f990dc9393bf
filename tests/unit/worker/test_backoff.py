"""Pauses between attempts."""

from __future__ import annotations

from twinsite.core.limits import HELD_RETRY_SECONDS_MAX
from twinsite.worker.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_reset() -> None:
    backoff = Backoff(0.25, 5.0)
    assert [backoff.next_seconds(hosts_are_held=False) for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_seconds(hosts_are_held=False) == 0.25


def test_hosts_that_are_held_do_not_wait_for_long_pauses() -> None:
    backoff = Backoff(0.25, 5.0)
    pauses = [backoff.next_seconds(hosts_are_held=True) for _ in range(7)]
    assert pauses[0] == 0.25
    assert max(pauses) == HELD_RETRY_SECONDS_MAX
    assert backoff.next_seconds(hosts_are_held=False) == 5.0, "the others still wait as long as before"
