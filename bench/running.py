"""What the cases share: the context of a run, and rounds in which the contenders take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import NamedTuple

from bench.errors import BenchError
from bench.machine import missing_tools
from bench.options import Options
from bench.results import CaseResult, Sample, Series
from bench.workspace import Workspace
from twinsite.core.limits import MIB
from twinsite.errors import TwinsiteError

COPY_BYTES_PER_SECOND_MIN = 5 * MIB
"""A copy slower than this is given up."""
COPY_SECONDS_MIN = 60.0

FAILURES = (BenchError, TwinsiteError, AssertionError, OSError, SubprocessError)
"""What a contender may raise: `tests.support` asserts where `bench` raises `BenchError`."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a case needs of its run. `say` shows what is being measured."""

    options: Options
    workspace: Workspace
    say: Callable[[str], None]

    def copy_seconds_max(self, size_bytes: int) -> float:
        """Return the longest time that a copy of `size_bytes` may take."""
        return COPY_SECONDS_MIN + size_bytes / COPY_BYTES_PER_SECOND_MIN


class Contender(NamedTuple):
    """One side of a comparison. `measure` is called once a round, with the round's number."""

    series: Series
    measure: Callable[[int], Sample]


def take_turns(contenders: Sequence[Contender], context: Context, result: CaseResult) -> None:
    """Measure every contender once a round, in an order that alternates, so that a drift of the machine evens out.

    What fails leaves a gap in its series and a sentence in the result's problems.
    """
    result.series += [contender.series for contender in contenders]
    for number in range(context.options.rounds):
        for series, measure in contenders if number % 2 == 0 else reversed(contenders):
            context.say(f"{result.title}, round {number + 1} of {context.options.rounds}: {series.label}")
            try:
                series.samples.append(measure(number))
            except FAILURES as error:
                series.samples.append(None)
                # An assertion may have no message.
                result.problems.append(f"{series.label}, round {number + 1}: {str(error) or repr(error)}")


def can_run(tools: tuple[str, ...], label: str, result: CaseResult) -> bool:
    """Say whether the programs for a contender are there; if not, note it in the result's problems."""
    missing = missing_tools(tools)
    result.problems += [f"{label} was not measured: {sentence}" for sentence in missing]
    return not missing
