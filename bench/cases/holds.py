"""The end of a hold: how soon hosts go on once the arbiter or the stream is back, and how fast they are then.

The stream is cut while the arbiter cannot be asked, so that the primary may neither wait for its secondary nor go on
alone. How long it holds is drawn anew each round, so that the end comes at any point of the pauses between its tries.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench import ours
from bench.errors import BenchError
from bench.link import LaidLink, Link
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.running import FAILURES, Contender, Context, take_turns
from bench.steady_writer import RANGE_BYTES, SteadyWriter
from bench.workspace import check_equal, write_random_file
from twinsite.messages import Mode

PLAIN_LINK = Link(0.0, 1e12)
"""Neither delay nor rate: it is there to be cut."""
WARM_UP_WRITES = 200
SPEED_SECONDS_MAX = 1.0
"""Speed is counted over so long before the cut and after the first write; over `--seconds` if that is shorter."""
HOLD_SECONDS_MAX = 10.0
"""Longest hold. Past it a host might give up."""
ON_ITS_WAY_SECONDS = 0.1
"""What is acknowledged as the hold begins may be read so much later by a host on a loaded machine."""
BEFORE, AFTER = "writes_before", "writes_after"


def holds(context: Context) -> CaseResult:
    """Measure the time from the arbiter's or the stream's return to the first acknowledged write, under one writer."""
    result = CaseResult("holds", "the end of a hold, 4 KiB random writes, QD1")
    kinds = {
        "arbiter": Series("arbiter", "arbiter back until the first write", "ms"),
        "stream": Series("stream", "stream back until the first write", "ms"),
    }
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        seconds_max = context.copy_seconds_max(RANGE_BYTES)
        source = directory / "source.raw"
        context.say(f"{result.title}: starting a pair")
        try:
            write_random_file(source, RANGE_BYTES, context.options.seed)
            pair, link = ours.linked_pair(stack, source, RANGE_BYTES, directory, PLAIN_LINK, seconds_max)
        except FAILURES as error:
            result.problems.append(f"no pair to hold writes: {error}")
            return result
        ends: dict[str, Callable[[], None]] = {"arbiter": partial(_arbiter_back, pair), "stream": link.restore}
        contenders = [
            Contender(series, partial(_hold, context, pair, link, ends[kind])) for kind, series in kinds.items()
        ]
        take_turns(contenders, context, result)
        try:
            check_equal(pair.path("az1", 0), pair.path("az2", 0))
        except FAILURES as error:
            result.problems.append(f"after the holds: {error}")
    for kind, series in kinds.items():
        before = series.of_detail(BEFORE, "before the cut", "writes/s")
        after = series.of_detail(AFTER, "after the first write", "writes/s")
        result.series += [before, after]
        result.comparisons.append(Comparison(f"{kind} back: speed after ÷ before", after, before))
        result.limits.append(Limit(series.label, series, None))
    return result


def _hold(context: Context, pair: ours.Pair, link: LaidLink, bring_back: Callable[[], None], number: int) -> Sample:
    """Write, cut off both, hold, bring one back, and return what the writer saw of it, in milliseconds."""
    speed_seconds = min(SPEED_SECONDS_MAX, context.options.seconds)
    seed = context.options.seed + number
    hold_seconds = min(HOLD_SECONDS_MAX, context.options.seconds * (1 + random.Random(seed).random()))
    with SteadyWriter([pair.uri(0)], seed) as host:
        host.wait_for_more(WARM_UP_WRITES)
        try:
            time.sleep(speed_seconds)
            cut_at = time.perf_counter()
            pair.arbiter.is_reachable = False
            link.cut()
            pair.primary.wait(lambda s: s.mode is Mode.HOLDING, "holding")
            held_at = time.perf_counter()
            time.sleep(hold_seconds)
            back_at = time.perf_counter()
            bring_back()
            host.wait_for_more(1)
            first_at = host.first_after(back_at)
            late_at = host.first_after(held_at + ON_ITS_WAY_SECONDS)
            if late_at < back_at:
                raise BenchError(f"a write was acknowledged {late_at - held_at:.3f} s after the primary began to hold")
            time.sleep(speed_seconds)
        finally:
            # Also after a failure: the writer ends only when its write is answered, and the next round needs both. A
            # link that does not come back must not hide an interrupt; then nothing gets in sync, which is told below.
            _arbiter_back(pair)
            with contextlib.suppress(BenchError):
                link.restore()
        ours.wait_in_sync(pair, context.copy_seconds_max(RANGE_BYTES))
        return Sample(
            (first_at - back_at) * 1000,
            details={
                "hold_seconds": back_at - held_at,
                BEFORE: host.rate(cut_at - speed_seconds, cut_at),
                AFTER: host.rate(first_at, first_at + speed_seconds),
            },
        )


def _arbiter_back(pair: ours.Pair) -> None:
    pair.arbiter.is_reachable = True
