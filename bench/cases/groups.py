"""Many mirrored groups at once, many disks in one group, and the memory that an idle group takes.

Each group has two workers of its own, as a node starts them. `--size` scales the number of groups and disks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bench.fio import QD32, sum_of_writes
from bench.processes import memory_bytes
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.workspace import chill, write_random_file
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import MIB

GROUP_COUNTS = (2, 8, 32)
DISK_COUNTS = (1, 4, 16)
SIZE_BYTES_PER_GROUP = 2 * MIB
"""A run with this `--size` has one group; 64 MiB are enough for all."""
VOLUME_BYTES_MAX = 8 * MIB
"""All volumes of all groups together stay below what the workspace keeps free."""
SINGLES = 2
"""How many groups are measured alone; the best of them stands for a single group."""
ALL_OVER_SINGLE_MIN = 1.0
IDLE_MIB_MAX = 25.0
REST_SECONDS = 3.0
"""After the last copy: a worker gives back what it has at hand when nothing has moved for a second or two."""


def groups(context: Context) -> CaseResult:
    """Measure writes to all groups at once over those to the best single one, and every worker's memory before that."""
    result = CaseResult("groups", "many groups, 4 KiB random writes, QD32 each")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    counts = _scaled(context, GROUP_COUNTS)
    if not can_run(("fio",), result.title, result):
        return result
    with ExitStack() as stack:
        pairs: list[WorkerPair] = []
        try:
            for number in range(max(counts)):
                context.say(f"{result.title}: starting group {number + 1} of {max(counts)}")
                pairs.append(_dense_pair(stack, context, [size_bytes]))
            _measure_idle(context, pairs, result)
        except FAILURES as error:
            result.problems.append(f"{len(pairs)} of {max(counts)} groups could be started: {error}")
            return result
        directory = context.workspace.new_directory(stack)

        def write(some: Sequence[WorkerPair], number: int) -> float:
            uris = [pair.uri(0) for pair in some]
            seconds = context.options.seconds
            return sum_of_writes(uris, QD32, size_bytes, seconds, context.options.seed + number, directory)

        def alone(number: int) -> Sample:
            return Sample(max(write([pair], number) for pair in pairs[:SINGLES]))

        def together(count: int, number: int) -> Sample:
            return Sample(write(pairs[:count], number))

        single = Series("groups-1", "best single group", "writes/s")
        several = {count: Series(f"groups-{count}", f"{count} groups at once", "writes/s") for count in counts}
        contenders = [Contender(single, alone)]
        contenders += [Contender(series, partial(together, count)) for count, series in several.items()]
        take_turns(contenders, context, result)
        for count, series in several.items():
            goal = ALL_OVER_SINGLE_MIN if count == max(counts) else None
            result.comparisons.append(Comparison(f"{count} groups ÷ best single group", series, single, goal))
        _measure_used(context, pairs, result)
    return result


def disks(context: Context) -> CaseResult:
    """Measure one group with 1, 4 and 16 disks, with the same number of writes in flight to all disks together."""
    result = CaseResult("disks", "disks of one group, 4 KiB random writes, QD32 together")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    if not can_run(("fio",), result.title, result):
        return result
    with ExitStack() as stack:
        contenders: dict[int, Contender] = {}
        for count in _scaled(context, DISK_COUNTS):
            context.say(f"{result.title}: starting a group of {count}")
            try:
                measure = _disks_measure(stack, context, count, size_bytes)
            except FAILURES as error:
                result.problems.append(f"a group of {count} disks was not measured: {error}")
                continue
            contenders[count] = Contender(Series(f"disks-{count}", f"{count} disks", "writes/s"), measure)
        take_turns(list(contenders.values()), context, result)
        for count in sorted(contenders):
            if count > 1 and 1 in contenders:
                title = f"{count} disks ÷ one disk"
                result.comparisons.append(Comparison(title, contenders[count].series, contenders[1].series))
    return result


def _scaled(context: Context, counts: Sequence[int]) -> list[int]:
    """Return the counts that `--size` has room for, two at the least."""
    most = max(2, context.options.size_bytes // SIZE_BYTES_PER_GROUP)
    return sorted({min(count, most) for count in counts})


def _dense_pair(stack: ExitStack, context: Context, sizes_bytes: Sequence[int]) -> WorkerPair:
    """Return a group in sync, on volumes that no write makes longer."""
    pair = WorkerPair(context.workspace.new_directory(stack), sizes_bytes)
    stack.callback(pair.close)
    for index, size_bytes in enumerate(sizes_bytes):
        write_random_file(pair.path("az1", index), size_bytes, context.options.seed + index)
    pair.start()
    pair.synchronize(seconds_max=context.copy_seconds_max(sum(sizes_bytes)))
    for index in range(len(sizes_bytes)):
        for site in ("az1", "az2"):
            chill(pair.path(site, index))
    return pair


def _disks_measure(stack: ExitStack, context: Context, count: int, size_bytes: int) -> Callable[[int], Sample]:
    pair = _dense_pair(stack, context, [size_bytes] * count)
    directory = context.workspace.new_directory(stack)
    pattern = replace(QD32, queue_depth=QD32.queue_depth // count)
    uris = [pair.uri(index) for index in range(count)]

    def measure(number: int) -> Sample:
        seed = context.options.seed + number
        return Sample(sum_of_writes(uris, pattern, size_bytes, context.options.seconds, seed, directory))

    return measure


def _measure_idle(context: Context, pairs: Sequence[WorkerPair], result: CaseResult) -> None:
    """Note the memory of the workers of groups that are in sync and that no host has written to."""
    time.sleep(REST_SECONDS)
    for site in ("primary", "secondary"):
        pss = Series(f"idle-{site}-pss", f"{site}, in sync (PSS)", "MiB")
        rss = Series(f"idle-{site}-rss", f"{site}, in sync (RSS)", "MiB")
        for _ in range(context.options.rounds):
            pss.samples.append(_largest(pairs, site, "Pss"))
            rss.samples.append(_largest(pairs, site, "Rss"))
        result.series += [pss, rss]
        result.limits.append(Limit(f"memory of an idle {site} (PSS)", pss, IDLE_MIB_MAX))
        result.limits.append(Limit(f"memory of an idle {site} (RSS)", rss, None))


def _measure_used(context: Context, pairs: Sequence[WorkerPair], result: CaseResult) -> None:
    """Note the memory of the same workers after they were written to."""
    for site in ("primary", "secondary"):
        pss = Series(f"used-{site}-pss", f"{site}, after the writes (PSS)", "MiB")
        try:
            pss.samples += [_largest(pairs, site, "Pss") for _ in range(context.options.rounds)]
        except FAILURES as error:
            pss.samples += [None] * context.options.rounds
            result.problems.append(f"memory after the writes: {error}")
        result.series.append(pss)
        result.limits.append(Limit(f"memory of a {site} after the writes (PSS)", pss, None))


def _largest(pairs: Sequence[WorkerPair], site: str, kind: str) -> Sample:
    """Return the memory of the largest worker of a site, in MiB, and the median of all."""
    sizes = [memory_bytes(pair.primary.pid if site == "primary" else pair.secondary.pid)[kind] / MIB for pair in pairs]
    return Sample(max(sizes), details={"median_mib": statistics.median(sizes), "workers": len(sizes)})
