"""The first copy of a volume: our full sync against the programs that people copy disks with.

Each crosses the loopback over TCP, starts with a warm source, and ends when the copy is durable. Ours ends when the
secondary has flushed and the group is in sync, nbdcopy's with `--flush`, and the others' likewise.

Random data goes to a target that was written before and lies in the cache. An empty one would have to find its memory
first, and in a virtual machine memory that was never used costs six times the copying, whoever happens to get it. Zeros
and holes, which take no memory, go to an empty target.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import ours
from bench.copying import FULL_COPIERS, NBDCOPY, Copier, Job
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import Contender, Context, can_run, take_turns
from bench.workspace import (
    check_equal,
    make_sparse_file,
    settle,
    write_patchy_file,
    write_random_file,
    write_zero_file,
)
from twinsite.core.limits import MIB

DENSE_OVER_NBDCOPY_MIN = 1.0
ZEROS_OVER_DENSE_MIN = 10.0


@dataclass(frozen=True, slots=True)
class Content:
    """What the volume holds."""

    name: str
    title: str
    make: Callable[[Path, int, int], None]  # Path, bytes, seed.
    make_target: Callable[[Path, int], None] = make_sparse_file
    over_nbdcopy_min: float | None = None
    is_zeros: bool = False  # Also measured against our own sync of random data.


DENSE = Content("full-sync", "full sync, random data", write_random_file, write_zero_file, DENSE_OVER_NBDCOPY_MIN)
PATCHY = Content("allocated", "full sync, a tenth allocated", write_patchy_file)
ZEROS = Content("zeros", "full sync, written zeros", lambda path, size, _: write_zero_file(path, size), is_zeros=True)
SPARSE = Content("sparse", "full sync, one hole", lambda path, size, _: make_sparse_file(path, size), is_zeros=True)


def full_sync(content: Content, context: Context) -> CaseResult:
    """Measure how fast a volume of the run's size gets to the other side, in MiB of volume a second."""
    result = CaseResult(content.name, content.title)
    twinsite = Series("twinsite", "Twinsite", "MiB/s")
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        source = directory / "source.raw"
        context.say(f"{content.title}: writing the source")
        content.make(source, context.options.size_bytes, context.options.seed)
        contenders = [Contender(twinsite, partial(_our_sync, content, context, source))]
        for copier in FULL_COPIERS:
            if context.options.wants(copier.name) and can_run(copier.tools, copier.label, result):
                peer = Series(copier.name, copier.label, "MiB/s")
                contenders.append(Contender(peer, partial(_copy, copier, content, context, source)))
                goal = content.over_nbdcopy_min if copier is NBDCOPY else None
                result.comparisons.append(Comparison(f"sync ÷ {copier.label}", twinsite, peer, goal))
        if content.is_zeros:
            random_data = Series("twinsite-random", "Twinsite, random data", "MiB/s")
            random_source = directory / "random.raw"
            DENSE.make(random_source, context.options.size_bytes, context.options.seed)
            contenders.append(Contender(random_data, partial(_our_sync, DENSE, context, random_source)))
            result.comparisons.append(Comparison("sync ÷ random data", twinsite, random_data, ZEROS_OVER_DENSE_MIN))
        take_turns(contenders, context, result)
    return result


def _is_last(context: Context, number: int) -> bool:
    return number == context.options.rounds - 1


def _our_sync(content: Content, context: Context, source: Path, number: int) -> Sample:
    size_bytes = context.options.size_bytes
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        target = directory / "az2" / "0.raw"
        target.parent.mkdir()
        content.make_target(target, size_bytes)
        pair = ours.paused_pair(stack, source, size_bytes, directory)
        settle(source, target)
        seconds, cpu = ours.timed_synchronize(pair, context.copy_seconds_max(size_bytes))
        if _is_last(context, number):
            check_equal(source, target)
    return Sample(size_bytes / MIB / seconds, size_bytes, cpu, {"seconds": seconds})


def _copy(copier: Copier, content: Content, context: Context, source: Path, number: int) -> Sample:
    size_bytes = context.options.size_bytes
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        target = directory / "target.raw"
        content.make_target(target, size_bytes)
        settle(source, target)
        copied = copier.copy(Job(source, target, directory, context.copy_seconds_max(size_bytes)))
        if _is_last(context, number):
            check_equal(source, target)
    return Sample(size_bytes / MIB / copied.seconds, size_bytes, copied.cpu_seconds, {"seconds": copied.seconds})
