"""Writes while a resync runs, against the same writes to the same pair in sync.

Before each run the whole volume is overwritten in a pause or not at all; then both files are brought into the page
cache in the same small folios, so that the resync is all that differs. The places of the writes are random, so they
meet blocks that were copied already and blocks that were not.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import ours
from bench.cases.writes import measure_load
from bench.fio import QD32, SEQUENTIAL, run_fio
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.watch import ResyncWatch
from bench.workspace import check_equal, chill, load
from twinsite.core.limits import MIB
from twinsite.messages import Mode

DURING_OVER_ALONE_MIN = 0.7
SIZE_BYTES_MIN = 512 * MIB
SIZE_BYTES_PER_SECOND = 512 * MIB
"""A resync must last longer than a run of writes: for each second of that, the volume is so much larger."""
SIZE_FACTOR_MAX = 2
"""It is at most so many times the run's size, for which the directory has room."""
SECONDS_MIN = 0.8
"""A shorter run would not see enough of the primary's reports."""
RESYNC_SPEED = "resync_mib_per_second"


def resyncing(context: Context) -> CaseResult:
    """Measure 4 KiB random writes, QD32, in sync and while everything is copied anew, and how fast that goes."""
    result = CaseResult("resyncing", f"{QD32.title}, during a resync")
    if not can_run(("fio",), result.title, result):
        return result
    alone = Series("in-sync", "mirrored, in sync", QD32.unit)
    during = Series("during", "mirrored, during a resync", QD32.unit)
    size_bytes = _size_bytes(context)
    with ExitStack() as stack:
        try:
            pair = ours.random_pair(stack, context, size_bytes, result.title)
        except FAILURES as error:
            result.problems.append(f"no pair to resync: {error}")
            return result
        directory = context.workspace.new_directory(stack)
        contenders = [
            Contender(alone, lambda number: _in_sync(context, pair, size_bytes, directory, number)),
            Contender(during, lambda number: _during(context, pair, size_bytes, directory, number)),
        ]
        take_turns(contenders, context, result)
        try:
            ours.wait_in_sync(pair, context.copy_seconds_max(size_bytes))
            check_equal(pair.path("az1", 0), pair.path("az2", 0))
        except FAILURES as error:
            result.problems.append(f"after the resyncs: {error}")
    speed = during.of_detail(RESYNC_SPEED, "speed of the resync", "MiB/s")
    result.series.append(speed)
    result.comparisons = [Comparison("during a resync ÷ in sync", during, alone, DURING_OVER_ALONE_MIN)]
    result.limits = [Limit("the resync, meanwhile", speed, None)]
    return result


def _size_bytes(context: Context) -> int:
    wanted = SIZE_BYTES_MIN + int(_seconds(context) * SIZE_BYTES_PER_SECOND) // MIB * MIB
    return min(wanted, max(SIZE_BYTES_MIN, SIZE_FACTOR_MAX * context.options.size_bytes))


def _seconds(context: Context) -> float:
    return max(SECONDS_MIN, context.options.seconds)


def _in_sync(context: Context, pair: ours.Pair, size_bytes: int, directory: Path, number: int) -> Sample:
    ours.wait_in_sync(pair, context.copy_seconds_max(size_bytes))
    _warm(pair)
    return _write(context, pair, size_bytes, directory, number)


def _during(context: Context, pair: ours.Pair, size_bytes: int, directory: Path, number: int) -> Sample:
    """Overwrite everything in a pause, and write while that is copied. Raises `BenchError` if the copy ends first."""
    seconds_max = context.copy_seconds_max(size_bytes)
    pair.pause()
    seed = context.options.seed + number
    run_fio(pair.uri(0), SEQUENTIAL, size_bytes, seconds_max, seed, directory, size_bytes // SEQUENTIAL.block_bytes)
    _warm(pair)
    pair.synchronize(wait=False)
    pair.primary.wait(lambda s: s.mode is Mode.COPYING and s.resync is not None, "copying")
    with ResyncWatch(pair) as watch:
        sample = _write(context, pair, size_bytes, directory, number)
    of_resync = {RESYNC_SPEED: watch.mib_per_second(), "resync_done_share": watch.done_share()}
    return replace(sample, details={**sample.details, **of_resync})


def _warm(pair: ours.Pair) -> None:
    for site in ("az1", "az2"):
        chill(pair.path(site, 0))
        load(pair.path(site, 0))


def _write(context: Context, pair: ours.Pair, size_bytes: int, directory: Path, number: int) -> Sample:
    seconds = _seconds(context)
    return measure_load(context, QD32, size_bytes, directory, ours.pids(pair), pair.uri(0), seconds, number)
