"""How often log-ins may fail, on a clock that the test turns."""

from __future__ import annotations

import pytest

from twinsite.control import login_limits
from twinsite.control.login_limits import Failures, LoginLimits


class Clock:
    """A clock in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failures_are_forgiven_evenly() -> None:
    clock = Clock()
    failures = Failures(6, clock)
    for _ in range(6):
        assert failures.seconds_left("a") == 0
        failures.take("a")
    assert failures.seconds_left("a") == pytest.approx(10)
    assert failures.seconds_left("b") == 0
    clock.now += 9
    assert failures.seconds_left("a") == pytest.approx(1)
    clock.now += 1
    assert failures.seconds_left("a") == 0
    failures.take("a")
    assert failures.seconds_left("a") == pytest.approx(10)
    clock.now += 600
    for _ in range(6):
        assert failures.seconds_left("a") == 0
        failures.take("a")


def test_success_costs_nothing_and_is_not_remembered() -> None:
    limits = LoginLimits(2, 2, Clock())
    for _ in range(100):
        assert limits.begin("a", "10.0.0.1") == 0
        limits.succeed("a", "10.0.0.1")
    assert (len(limits.users), len(limits.addresses)) == (0, 0)


def test_attempts_at_the_same_time_cannot_pass_the_limit_together() -> None:
    limits = LoginLimits(100, 3, Clock())
    begun = [limits.begin(str(number), "10.0.0.1") for number in range(10)]
    assert begun.count(0) == 3
    assert begun[-1] == 20
    limits.succeed("0", "10.0.0.1")
    assert limits.begin("x", "10.0.0.1") == 0


def test_either_limit_holds_and_a_refused_attempt_counts_nowhere() -> None:
    clock = Clock()
    limits = LoginLimits(3, 2, clock)
    assert [limits.begin("a", f"10.0.0.{number}") for number in range(4)] == [0, 0, 0, 20]
    assert [limits.begin(f"u{number}", "10.0.1.1") for number in range(3)] == [0, 0, 30]
    clock.now += 20
    assert limits.begin("a", "10.0.0.9") == 0


def test_no_limit() -> None:
    limits = LoginLimits(0, 0, Clock())
    assert [limits.begin("a", "10.0.0.1") for _ in range(100)] == [0] * 100
    assert (len(limits.users), len(limits.addresses)) == (0, 0)


def test_networks() -> None:
    limits = LoginLimits(100, 1, Clock())
    assert limits.begin("a", "2001:db8::1") == 0
    assert limits.begin("a", "2001:db8::ffff:1") > 0, "one customer has the whole network"
    assert limits.begin("a", "2001:db8:0:1::1") == 0
    assert limits.begin("a", "::ffff:10.0.0.1") == 0
    assert limits.begin("a", "10.0.0.1") > 0
    assert limits.begin("a", "") == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limits, "ENTRIES_MAX", 3)
    failures = Failures(1, Clock())
    for key in "abcd":
        failures.take(key)
    assert len(failures) == 3
    assert failures.seconds_left("a") == 0, "what was tried longest ago is forgotten"
    assert failures.seconds_left("d") > 0
    failures.take("b")
    failures.take("e")
    assert failures.seconds_left("b") > 0
    assert failures.seconds_left("c") == 0
