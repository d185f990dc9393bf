"""Whole installations from seeds: faults first, then peace. See docs/simulator.md."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.conftest import FIRST_FRESH_SEED
from twinsite_sim.judge import Judge
from twinsite_sim.loop import WorldFailure
from twinsite_sim.world import run_world

FIRST_SEED = 1
SEEDS_OF_ONE_TEST = 10
TESTS = 12
FRESH_SEEDS = range(10**6, 10**9)
FRESH_SEEDS_OF_ONE_TEST = 50
FRESH_TESTS = 3
"""With those of the fixed seeds, the worlds take about two minutes of one processor."""
SOURCES = Path(__file__).parents[2] / "src"
PROCESS_SECONDS_MAX = 120

DIGESTS = "from twinsite_sim.world import run_world; print([run_world(seed).digest for seed in (3, 7, 11, 515015)])"


def check_world(seed: int) -> None:
    """Run a world; what fails says how to see it again."""
    result = run_world(seed)
    if result.failure is not None:
        print(result.trace.tail())
        raise AssertionError(f"world {seed} fails; replay it with: make sim SEED={seed}") from result.failure


@pytest.mark.parametrize("number", range(TESTS))
def test_every_world_holds(number: int) -> None:
    first = FIRST_SEED + number * SEEDS_OF_ONE_TEST
    for seed in range(first, first + SEEDS_OF_ONE_TEST):
        check_world(seed)


@pytest.mark.parametrize("number", range(FRESH_TESTS))
def test_worlds_that_no_other_state_of_the_code_has_seen_hold(
    number: int, record_property: Callable[[str, object], None]
) -> None:
    """Each change of the code looks at other worlds, and always at the same ones, so that a failure is no chance."""
    first = fresh_seed() + number * FRESH_SEEDS_OF_ONE_TEST
    record_property(FIRST_FRESH_SEED, first)
    for seed in range(first, first + FRESH_SEEDS_OF_ONE_TEST):
        check_world(seed)


def fresh_seed() -> int:
    """Return a seed that follows from every line of the product and the simulator."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(path.read_bytes())
    return FRESH_SEEDS[int.from_bytes(digest.digest()) % len(FRESH_SEEDS)]


def test_a_seed_is_one_history_whatever_the_order_of_hashes() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS_MAX,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1, printed


def test_what_a_checker_finds_between_two_answers_ends_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: Judge) -> None:
        del self
        raise WorldFailure("found")

    monkeypatch.setattr(Judge, "look", look)
    assert str(run_world(FIRST_SEED).failure) == "found"


def test_worlds_do_what_they_are_for() -> None:
    """Faults happen, groups move in every way, and hosts get answers."""
    operations: dict[str, int] = {}
    told = ""
    answered = without_help = 0
    for seed in range(1, 41):
        result = run_world(seed)
        answered += result.answered
        without_help += not result.help
        told += "\n".join(result.trace.lines)
        for name, count in result.operations.items():
            operations[name] = operations.get(name, 0) + count
    assert answered > 5000
    assert without_help > 20, "most groups become active again by themselves"
    names = ("failover", "force", "reprotect", "reverse", "stop", "extend", "change members")
    assert all(operations.get(name, 0) > 0 for name in names)
    for event in ("machine crashes", "arbiter.granted", "is stopped", "resets", "switches", "hosts see", "undo, since"):
        assert event in told, event
