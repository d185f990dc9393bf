"""After `kill -9` of a primary whose secondary has everything: what is compared, what travels, how long hosts wait.

The disk is sparse and large, the working set a small part of it. Nothing differs, because nobody wrote at that moment:
so what is compared is the whole cost. The time counts from the start of the new process, since who starts it, and when,
is the node's affair.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

from bench import ours
from bench.errors import BenchError
from bench.hashing import HASH_TOOL, hash_both
from bench.processes import cpu_seconds
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.running import FAILURES, Context, can_run
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import EXTENT_BYTES, KIB, MIB
from twinsite.messages import Replication, ResyncReport, Role
from twinsite.nbd_client import NbdClient

DISK_FACTOR = 64
"""The disk is so many times the working set, which is the run's size: 64 GiB and 1 GiB by default."""
COMPARED_OVER_LOGGED_MAX = 1.0
SHIPPED_OVER_COMPARED_MAX = 0.01
WRITE_BYTES = MIB
TOUCH_BYTES = 4 * KIB


def recovery(context: Context) -> CaseResult:
    """Measure each round on one pair: write to every extent of the working set, kill the primary, start it again."""
    result = CaseResult("recovery", "primary killed and started again")
    compared = Series("compared", "bytes compared", "MiB")
    logged = Series("logged", "extents that the log names", "MiB")
    shipped = Series("shipped", "bytes shipped", "MiB")
    serving = Series("serving", "from start to serving", "s")
    speed = Series("speed", "comparing, both sides", "MiB/s")
    hashing = Series("xxhsum", "xxhsum -H3, both sides at once", "MiB/s")
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        try:
            pair = _in_sync(stack, context, directory, result.title)
            ranges = [_working_set(pair, site, context.options.size_bytes) for site in ("az1", "az2")]
            has_xxhsum = can_run((HASH_TOOL,), HASH_TOOL, result)
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                samples = _one_round(pair, context.options.size_bytes, context.options.seed + number)
                for series, sample in zip((compared, logged, shipped, serving, speed), samples, strict=True):
                    series.samples.append(sample)
                hashing.samples.append(hash_both(ranges, directory, context.options.size_bytes) if has_xxhsum else None)
        except FAILURES as error:
            result.problems.append(f"recovery: {error}")
    result.series = [compared, logged, shipped, serving, speed, hashing]
    result.comparisons = [
        Comparison("compared ÷ logged", compared, logged, COMPARED_OVER_LOGGED_MAX, goal_is_most=True),
        Comparison("shipped ÷ compared", shipped, compared, SHIPPED_OVER_COMPARED_MAX, goal_is_most=True),
        Comparison("comparing ÷ xxhsum", speed, hashing),
    ]
    result.limits = [Limit("from start to serving", serving, None)]
    return result


def _in_sync(stack: ExitStack, context: Context, directory: Path, title: str) -> WorkerPair:
    """Return a pair in sync whose working set, the first part of the disk, is written and on the disk of both sites."""
    size_bytes = context.options.size_bytes
    context.say(f"{title}: starting a pair whose log is cold")
    pair = ours.cold_pair(stack, size_bytes * DISK_FACTOR, directory, context.copy_seconds_max(size_bytes))
    context.say(f"{title}: writing the working set")
    source = random.Random(context.options.seed)
    with NbdClient(pair.uri(0), timeout_seconds=context.copy_seconds_max(size_bytes)) as client:
        for offset in range(0, size_bytes, WRITE_BYTES):
            client.write(offset, source.randbytes(WRITE_BYTES))
        client.flush()
    return pair


def _one_round(pair: WorkerPair, size_bytes: int, seed: int) -> tuple[Sample, ...]:
    """Return what was compared, logged and shipped, the time to serving, and the speed of comparing."""
    source = random.Random(seed)
    with NbdClient(pair.uri(0)) as client:
        for extent in range(size_bytes // EXTENT_BYTES):
            offset = extent * EXTENT_BYTES + source.randrange(EXTENT_BYTES // TOUCH_BYTES) * TOUCH_BYTES
            client.write(offset, source.randbytes(TOUCH_BYTES))
    endpoint = pair.follow()
    pair.primary.kill()
    logged_bytes = ours.logged_bytes(pair)
    secondary_cpu, begun = cpu_seconds([pair.secondary.pid]), time.perf_counter()
    pair.primary.start()
    spec = pair.spec(Role.PRIMARY, Replication.RUNNING, endpoint)
    pair.primary.send(spec)
    pair.primary.wait(lambda s: bool(s.members) and s.members[0].serving, "serving")
    with NbdClient(pair.uri(0)) as client:
        client.read(0, TOUCH_BYTES)
        seconds = time.perf_counter() - begun
    cpu = cpu_seconds(ours.pids(pair)) - secondary_cpu
    report = _report(pair)
    assert report.finished_at is not None
    comparing_seconds = report.finished_at - report.started_at
    return (
        Sample(report.bytes_compared / MIB),
        Sample(logged_bytes / MIB),
        Sample(report.bytes_shipped / MIB),
        Sample(seconds, report.bytes_compared, cpu),
        Sample(report.bytes_compared / MIB / comparing_seconds, details={"seconds": comparing_seconds}),
    )


def _report(pair: WorkerPair) -> ResyncReport:
    status = pair.primary.wait(lambda s: s.resync is None or s.resync.finished_at is not None, "done with comparing")
    if status.resync is None or not status.resync.bytes_compared:
        raise BenchError(f"nothing was compared: {status}")
    return status.resync


def _working_set(pair: WorkerPair, site: str, size_bytes: int) -> Path:
    """Copy the written part of a side's disk to a file of its own, which a tool can read without the hole behind it."""
    path = pair.directory / f"{site}.set"
    with pair.path(site, 0).open("rb") as disk, path.open("wb") as copy:
        for start in range(0, size_bytes, EXTENT_BYTES):
            copy.write(disk.read(min(EXTENT_BYTES, size_bytes - start)))
    return path
