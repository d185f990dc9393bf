"""A delta resync: what travels after a pause, over what was dirtied in it.

The bench keeps its own account of the dirtied 64 KiB blocks, because the worker's is what is being judged.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

from bench import ours
from bench.errors import BenchError
from bench.processes import cpu_seconds
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import FAILURES, Context
from bench.workspace import check_equal, write_random_file
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import BLOCK_BYTES, KIB, MIB
from twinsite.nbd_client import NbdClient

VOLUME_BYTES_MAX = 256 * MIB
WRITE_BYTES = 4 * KIB
SHIPPED_OVER_DIRTIED_MAX = 1.05
DIRTIED_BLOCKS_SHARE = 8
"""One block in so many is written to while the group is paused."""


def delta_resync(context: Context) -> CaseResult:
    """Measure the bytes of volume shipped, and all bytes on the stream, over the bytes of dirtied blocks."""
    result = CaseResult("delta", "delta resync")
    shipped = Series("shipped", "volume content shipped", "MiB")
    streamed = Series("streamed", "bytes on the stream", "MiB")
    dirtied = Series("dirtied", "dirtied 64 KiB blocks", "MiB")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    generator = random.Random(context.options.seed)
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        source = directory / "source.raw"
        context.say(f"{result.title}: first synchronization")
        write_random_file(source, size_bytes, context.options.seed)
        try:
            pair = ours.paused_pair(stack, source, size_bytes, directory)
            pair.synchronize(seconds_max=context.copy_seconds_max(size_bytes))
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                samples = _one_round(pair, size_bytes, generator, context.copy_seconds_max(size_bytes))
                for series, sample in zip((shipped, streamed, dirtied), samples, strict=True):
                    series.samples.append(sample)
            check_equal(source, pair.path("az2", 0))
        except FAILURES as error:
            result.problems.append(f"delta resync: {error}")
    result.series = [shipped, streamed, dirtied]
    result.comparisons = [
        Comparison("content shipped ÷ dirtied", shipped, dirtied, SHIPPED_OVER_DIRTIED_MAX, goal_is_most=True),
        Comparison("stream bytes ÷ dirtied", streamed, dirtied, SHIPPED_OVER_DIRTIED_MAX, goal_is_most=True),
    ]
    return result


def _one_round(
    pair: WorkerPair, size_bytes: int, generator: random.Random, seconds_max: float
) -> tuple[Sample, Sample, Sample]:
    """Pause, write, synchronize; return what was shipped, what travelled, and what was dirtied."""
    sent_before = pair.pause().counters.stream_bytes_sent
    block_count = size_bytes // BLOCK_BYTES
    blocks = generator.sample(range(block_count), max(1, block_count // DIRTIED_BLOCKS_SHARE))
    with NbdClient(pair.uri(0)) as client:
        for block in blocks:
            offset = block * BLOCK_BYTES + generator.randrange(BLOCK_BYTES // WRITE_BYTES) * WRITE_BYTES
            client.write(offset, generator.randbytes(WRITE_BYTES))
    dirtied_bytes = len(blocks) * BLOCK_BYTES
    processes = ours.pids(pair)
    cpu_before, begun = cpu_seconds(processes), time.perf_counter()
    pair.synchronize(seconds_max=seconds_max)
    seconds, cpu = time.perf_counter() - begun, cpu_seconds(processes) - cpu_before
    status = pair.primary.status
    if status is None or status.resync is None or status.resync.kind != "delta":
        raise BenchError(f"the resync was no delta resync: {status}")
    sent_bytes = status.counters.stream_bytes_sent - sent_before
    return (
        Sample(status.resync.bytes_shipped / MIB, dirtied_bytes, cpu, {"seconds": seconds}),
        Sample(sent_bytes / MIB),
        Sample(dirtied_bytes / MIB),
    )
