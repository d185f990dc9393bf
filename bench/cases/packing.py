"""A full sync over a slow link: what compressing the copy gives, and what it costs where there is nothing to gain.

The link is that of `distance`. What lies on real disks is stood for by the programs and libraries of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import ours
from bench.link import Link
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import Contender, Context, take_turns
from bench.workspace import check_equal, settle, write_random_file, write_system_files, write_zero_file
from tests.support.worker_process import WorkerProcess
from twinsite.core.limits import MIB

ROUND_TRIP_SECONDS = 0.001
MEGABITS = (1000, 200)
RANDOM_MEGABITS = 1000
"""The link that random data crosses."""
RANDOM_OVER_PLAIN_MIN = 0.9
VOLUME_BYTES_MAX = 512 * MIB


def packing(context: Context) -> CaseResult:
    """Measure how fast a volume gets to the other side with and without compression, in MiB of volume a second."""
    result = CaseResult("packing", "full sync over a slow link")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        context.say(f"{result.title}: writing the sources")
        files, noise = directory / "files.raw", directory / "random.raw"
        write_system_files(files, size_bytes)
        write_random_file(noise, size_bytes, context.options.seed)
        contenders: list[Contender] = []
        for megabits in MEGABITS:
            contenders += _both_ways(context, result, files, "programs and libraries", megabits, None)
        contenders += _both_ways(context, result, noise, "random data", RANDOM_MEGABITS, RANDOM_OVER_PLAIN_MIN)
        take_turns(contenders, context, result)
    return result


def _both_ways(
    context: Context, result: CaseResult, source: Path, title: str, megabits: int, goal: float | None
) -> list[Contender]:
    """Return our sync, and the same by a worker that compresses nothing."""
    link = Link(ROUND_TRIP_SECONDS, megabits * 1e6 / 8)
    name = f"{source.stem}-{megabits}"
    adaptive = Series(name, f"Twinsite, {title}, {megabits} Mbit/s", "MiB/s")
    plain = Series(f"{name}-plain", f"the same without compression, {title}, {megabits} Mbit/s", "MiB/s")
    result.comparisons.append(Comparison(f"{megabits} Mbit/s: {title}, as it is ÷ plain", adaptive, plain, goal))
    measure: Callable[[type[WorkerProcess], int], Sample] = partial(_sync, context, source, link)
    return [
        Contender(adaptive, partial(measure, WorkerProcess)),
        Contender(plain, partial(measure, ours.UnpackingWorker)),
    ]


def _sync(context: Context, source: Path, link: Link, kind: type[WorkerProcess], number: int) -> Sample:
    size_bytes = source.stat().st_size
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        target = directory / "az2" / "0.raw"
        target.parent.mkdir()
        write_zero_file(target, size_bytes)
        pair = ours.paused_pair(stack, source, size_bytes, directory, kind)
        laid = link.start(stack, pair.follow())
        settle(source, target)
        seconds, cpu = ours.timed_synchronize(pair, context.copy_seconds_max(size_bytes), laid.endpoint)
        if number == context.options.rounds - 1:
            check_equal(source, target)
        sent = ours.ask(pair).counters.stream_bytes_sent
    return Sample(
        size_bytes / MIB / seconds, size_bytes, cpu, {"seconds": seconds, "of_it_on_the_wire": sent / size_bytes}
    )
