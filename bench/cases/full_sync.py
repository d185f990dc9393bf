"""The first copy of a volume: our full sync against nbdcopy between two nbdkit file servers.

Both cross one TCP connection on the loopback and start with a warm source. Our sync ends when the secondary has flushed
and the group is in sync, so the equal of it is `nbdcopy --flush`.

Random data goes to a target that was written before and lies in the cache. An empty one would have to find its memory
first, and in a virtual machine memory that was never used costs six times the copying, whoever happens to get it. Zeros
and holes, which take no memory, go to an empty target.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peers
from bench.processes import cpu_seconds, run
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import Contender, Context, can_run, take_turns
from bench.workspace import check_equal, make_sparse_file, settle, write_random_file, write_zero_file
from twinsite.core.limits import MIB

DENSE_OVER_NBDCOPY_MIN = 0.8


@dataclass(frozen=True, slots=True)
class Content:
    """What the volume holds."""

    name: str
    title: str
    make: Callable[[Path, int, int], None]  # Path, bytes, seed.
    make_target: Callable[[Path, int], None] = make_sparse_file
    goal: float | None = None


DENSE = Content("full-sync", "full sync, random data", write_random_file, write_zero_file, DENSE_OVER_NBDCOPY_MIN)
ZEROS = Content("zeros", "full sync, written zeros", lambda path, size, seed: write_zero_file(path, size))
SPARSE = Content("sparse", "full sync, one hole", lambda path, size, seed: make_sparse_file(path, size))


def full_sync(content: Content, context: Context) -> CaseResult:
    """Measure how fast a volume of the run's size gets to the other side, in MiB of volume a second."""
    result = CaseResult(content.name, content.title)
    with ExitStack() as stack:
        source = context.workspace.new_directory(stack) / "source.raw"
        context.say(f"{content.title}: writing the source")
        content.make(source, context.options.size_bytes, context.options.seed)
        contenders = _contenders(content, context, source, result)
        take_turns(list(contenders.values()), context, result)
    for title, peer_name, goal in (
        ("sync ÷ nbdcopy --flush", "nbdcopy-flush", content.goal),
        ("sync ÷ nbdcopy, no flush", "nbdcopy", None),
    ):
        if peer_name in contenders:
            peer = contenders[peer_name].series
            result.comparisons.append(Comparison(title, contenders["twinsite"].series, peer, goal))
    return result


def _contenders(content: Content, context: Context, source: Path, result: CaseResult) -> dict[str, Contender]:
    last_round = context.options.rounds - 1

    def twinsite(number: int) -> Sample:
        return _our_sync(content, context, source, is_last=number == last_round)

    def nbdcopy_flush(number: int) -> Sample:
        return _nbdcopy(content, context, source, ["--flush"])

    def nbdcopy(number: int) -> Sample:
        return _nbdcopy(content, context, source, [])

    contenders = {"twinsite": Contender(Series("twinsite", "Twinsite", "MiB/s"), twinsite)}
    if context.options.wants("nbdcopy") and can_run(("nbdcopy", "nbdkit"), "nbdcopy", result):
        flushing = Series("nbdcopy-flush", "nbdcopy --flush", "MiB/s")
        contenders["nbdcopy-flush"] = Contender(flushing, nbdcopy_flush)
        contenders["nbdcopy"] = Contender(Series("nbdcopy", "nbdcopy, no flush", "MiB/s"), nbdcopy)
    return contenders


def _our_sync(content: Content, context: Context, source: Path, *, is_last: bool) -> Sample:
    size_bytes = context.options.size_bytes
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        target = directory / "az2" / "0.raw"
        target.parent.mkdir()
        content.make_target(target, size_bytes)
        pair = ours.paused_pair(stack, source, size_bytes, directory)
        settle(source, target)
        processes = ours.pids(pair)
        cpu_before, begun = cpu_seconds(processes), time.perf_counter()
        pair.synchronize(seconds_max=context.copy_seconds_max(size_bytes))
        seconds = time.perf_counter() - begun
        cpu = cpu_seconds(processes) - cpu_before
        if is_last:
            check_equal(source, target)
    return Sample(size_bytes / MIB / seconds, size_bytes, cpu, {"seconds": seconds})


def _nbdcopy(content: Content, context: Context, source: Path, flags: list[str]) -> Sample:
    size_bytes = context.options.size_bytes
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        target = directory / "target.raw"
        content.make_target(target, size_bytes)
        near, source_uri = peers.nbdkit_unix(stack, source, directory, "source")
        far, target_port = peers.nbdkit_tcp(stack, target, directory, "target")
        settle(source, target)
        cpu_before = cpu_seconds([near.pid, far.pid])
        command = ["nbdcopy", *flags, source_uri, f"nbd://127.0.0.1:{target_port}/"]
        finished = run(command, directory / "nbdcopy.log", context.copy_seconds_max(size_bytes))
        cpu = cpu_seconds([near.pid, far.pid]) - cpu_before + finished.cpu_seconds
    return Sample(size_bytes / MIB / finished.seconds, size_bytes, cpu, {"seconds": finished.seconds})
