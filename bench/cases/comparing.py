"""A resync by digests between two sides that hold the same: the whole volume is read on both, and nothing travels.

The primary starts without its state each round, as after the loss of the disk that held it. So it knows nothing of what
its secondary holds, whatever its log had named, and compares everything while it serves hosts.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack

from bench import ours
from bench.errors import BenchError
from bench.hashing import HASH_TOOL, hash_both
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.workspace import check_equal, settle
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import MIB

COMPARING_OVER_XXHSUM_MIN = 0.7


def comparing(context: Context) -> CaseResult:
    """Measure how fast two sides find that they are equal, in MiB of volume a second, against xxhsum of both files."""
    result = CaseResult("comparing", "resync by digests, nothing differs")
    ours_series = Series("twinsite", "Twinsite, both sides", "MiB/s")
    peer_series = Series("xxhsum", "xxhsum -H3, both sides at once", "MiB/s")
    size_bytes = context.options.size_bytes
    with ExitStack() as stack:
        try:
            pair = ours.random_pair(stack, context, size_bytes, result.title)
        except FAILURES as error:
            result.problems.append(f"comparing: {error}")
            return result
        paths = [pair.path(site, 0) for site in ("az1", "az2")]
        settle(*paths)
        seconds_max = context.copy_seconds_max(size_bytes)
        contenders = [Contender(ours_series, lambda _: _compare(pair, size_bytes, seconds_max))]
        if can_run((HASH_TOOL,), HASH_TOOL, result):
            contenders.append(Contender(peer_series, lambda _: hash_both(paths, pair.directory, size_bytes)))
            result.comparisons = [Comparison("comparing ÷ xxhsum", ours_series, peer_series, COMPARING_OVER_XXHSUM_MIN)]
        take_turns(contenders, context, result)
        check_equal(*paths)
    return result


def _compare(pair: WorkerPair, size_bytes: int, seconds_max: float) -> Sample:
    """Start the primary anew and let it compare everything. Raises `BenchError` if it did anything else."""
    pair.primary.stop()
    shutil.rmtree(pair.primary.directory / "state")
    pair.start_primary()
    _, cpu = ours.timed_synchronize(pair, seconds_max)
    status = pair.primary.status
    report = status.resync if status is not None else None
    if report is None or report.finished_at is None or report.bytes_compared != size_bytes or report.bytes_shipped:
        raise BenchError(f"not everything was compared, or something differed: {status}")
    seconds = report.finished_at - report.started_at
    return Sample(size_bytes / MIB / seconds, size_bytes, cpu, {"seconds": seconds})
