"""A delta resync: what travels after a pause, over what was dirtied in it, and what others take for the same.

The bench keeps its own account of the dirtied blocks, and the kernel counts what travels: what the worker says of
itself is what is being judged. Of ours it counts the bytes of the stream's connection; the peers have a network of
their own, whose count holds TCP's headers and acknowledgements as well, which is a thousandth.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass

from bench import ours
from bench.copying import NBDCOPY, RSYNC_DELTA, Copier, Job
from bench.errors import BenchError
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import FAILURES, Context, can_run
from bench.wire import NETWORK_TOOLS, Network, connection_bytes
from bench.workspace import check_equal, copy_data
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import BLOCK_BYTES, KIB, MIB
from twinsite.nbd_client import NbdClient

VOLUME_BYTES_MAX = 256 * MIB
WRITE_BYTES = 4 * KIB
WIRE_OVER_DIRTIED_MAX = 1.03


@dataclass(frozen=True, slots=True)
class Dirtying:
    """How much of the volume is overwritten in a pause, in 4 KiB at random places."""

    name: str
    percent: int


ONE_PERCENT = Dirtying("delta", 1)
TEN_PERCENT = Dirtying("delta-10", 10)
_PEERS = (RSYNC_DELTA, NBDCOPY)


def delta_resync(dirtying: Dirtying, context: Context) -> CaseResult:
    """Measure the bytes on the wire, ours and the peers', over the bytes of dirtied blocks."""
    result = CaseResult(dirtying.name, f"delta resync, {dirtying.percent} % overwritten")
    wire = Series("twinsite", "Twinsite, on the wire", "MiB")
    blocks = Series("blocks", "dirtied 64 KiB blocks", "MiB")
    writes = Series("writes", "4 KiB writes", "MiB")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    seconds_max = context.copy_seconds_max(size_bytes)
    can_count = can_run(("ss",), "the wire", result)
    wanted = [copier for copier in _PEERS if context.options.wants(copier.name)]
    peers = [copier for copier in wanted if can_run((*copier.tools, *NETWORK_TOOLS), copier.label, result)]
    of_peers = {copier.name: Series(copier.name, f"{copier.label}, on the wire", "MiB") for copier in peers}
    generator = random.Random(context.options.seed)
    with ExitStack() as stack:
        try:
            pair = ours.random_pair(stack, context, size_bytes, result.title)
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                pair.pause()
                pages = _overwrite(pair, size_bytes, dirtying.percent, generator)
                for copier in peers:
                    of_peers[copier.name].samples.append(_wire_of(copier, pair, context, result, seconds_max))
                wire.samples.append(_synchronize(pair, len(_blocks(pages)) * BLOCK_BYTES, seconds_max, can_count))
                blocks.samples.append(Sample(len(_blocks(pages)) * BLOCK_BYTES / MIB))
                writes.samples.append(Sample(len(pages) * WRITE_BYTES / MIB))
            check_equal(pair.path("az1", 0), pair.path("az2", 0))
        except FAILURES as error:
            result.problems.append(f"{result.title}: {error}")
    result.series = [wire, blocks, writes, *of_peers.values()]
    _even_out(result)
    result.comparisons = [
        Comparison("wire ÷ dirtied blocks", wire, blocks, WIRE_OVER_DIRTIED_MAX, goal_is_most=True),
        Comparison("wire ÷ 4 KiB writes", wire, writes),
        *(Comparison(f"wire ÷ {copier.label}", wire, of_peers[copier.name]) for copier in peers),
    ]
    return result


def _even_out(result: CaseResult) -> None:
    """Let a round that failed half way be a gap in the series that it did not reach."""
    length = max(len(series.samples) for series in result.series)
    for series in result.series:
        series.samples += [None] * (length - len(series.samples))


def _overwrite(pair: WorkerPair, size_bytes: int, percent: int, generator: random.Random) -> list[int]:
    """Write to so many of the volume's 4 KiB pages; return their numbers."""
    page_count = size_bytes // WRITE_BYTES
    pages = generator.sample(range(page_count), max(1, page_count * percent // 100))
    with NbdClient(pair.uri(0)) as client:
        for page in pages:
            client.write(page * WRITE_BYTES, generator.randbytes(WRITE_BYTES))
    return pages


def _blocks(pages: list[int]) -> set[int]:
    return {page * WRITE_BYTES // BLOCK_BYTES for page in pages}


def _synchronize(pair: WorkerPair, dirtied_bytes: int, seconds_max: float, can_count: bool) -> Sample | None:
    """Synchronize; return what the connection, which is a new one, has carried in MiB, or None if nobody can count."""
    seconds, cpu = ours.timed_synchronize(pair, seconds_max)
    status, secondary = pair.primary.status, pair.secondary.status
    if status is None or status.resync is None or status.resync.kind != "delta":
        raise BenchError(f"the resync was no delta resync: {status}")
    if not can_count:
        return None
    assert secondary is not None
    assert secondary.stream_endpoint is not None
    carried = connection_bytes(int(secondary.stream_endpoint.rpartition(":")[2]))
    details = {
        "seconds": seconds,
        "shipped_mib": status.resync.bytes_shipped / MIB,
        "sent_again_mib": carried.again_bytes / MIB,
    }
    return Sample(carried.all_bytes / MIB, dirtied_bytes, cpu, details)


def _wire_of(
    copier: Copier, pair: WorkerPair, context: Context, result: CaseResult, seconds_max: float
) -> Sample | None:
    """Let a peer bring a copy of what the secondary holds up to date; return what that took on the wire, in MiB."""
    source = pair.path("az1", 0)
    try:
        with ExitStack() as stack:
            directory = context.workspace.new_directory(stack)
            target = directory / "target.raw"
            copy_data(pair.path("az2", 0), target)
            network = Network(stack, directory)
            copied = copier.copy(Job(source, target, directory, seconds_max, network))
            carried_bytes = network.carried_bytes()
            check_equal(source, target)
    except FAILURES as error:
        result.problems.append(f"{copier.label}: {error}")
        return None
    return Sample(carried_bytes / MIB, details={"seconds": copied.seconds})
