"""Mirrored writes over a link with delay and a rate, against what the link allows.

The link is a proxy (`bench.delaying_proxy`), since not every kernel can delay packets. What it costs itself is measured
with plain TCP in the same round.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import ours
from bench.fio import QD1, Pattern, run_fio
from bench.link import Link, plain_tcp
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.workspace import chill, copy_data, write_random_file
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import KIB, MIB

LINK_BYTES_PER_SECOND = 1e9 / 8
ROUND_TRIPS_MS = (0.2, 1.0, 5.0)
FAR_MS = 5.0
"""The link that the deep queues are measured on."""
DEEP = (
    Pattern("small", "4 KiB random writes, QD128", True, 4 * KIB, 128),
    Pattern("large", "1 MiB sequential writes, QD128", False, MIB, 128),
)
OVER_LINK_MIN = 0.85
VOLUME_BYTES_MAX = 256 * MIB


def distance(context: Context) -> CaseResult:
    """Measure latency over three links, and the rate of deep queues over the longest one."""
    result = CaseResult("distance", "mirrored over 1 Gbit/s with added round trips")
    if not can_run(("fio",), result.title, result):
        return result
    contenders: list[Contender] = []
    with ExitStack() as stack:
        content = context.workspace.new_directory(stack) / "content.raw"
        write_random_file(content, _size_bytes(context), context.options.seed)
        for round_trip_ms in ROUND_TRIPS_MS:
            link = Link(round_trip_ms / 1000, LINK_BYTES_PER_SECOND)
            context.say(f"{result.title}: starting a pair that is {round_trip_ms:g} ms apart")
            directory = context.workspace.new_directory(stack)
            try:
                pair = _pair(stack, context, link, content, directory)
            except FAILURES as error:
                result.problems.append(f"a pair that is {round_trip_ms:g} ms apart was not measured: {error}")
                continue
            contenders += _latency(context, link, pair, directory, result)
            if round_trip_ms == FAR_MS:
                contenders += _deep(context, link, pair, directory, result)
        take_turns(contenders, context, result)
    return result


def _size_bytes(context: Context) -> int:
    return min(context.options.size_bytes, VOLUME_BYTES_MAX)


def _pair(stack: ExitStack, context: Context, link: Link, content: Path, directory: Path) -> WorkerPair:
    size_bytes = _size_bytes(context)
    # A copy for each pair: it is written to.
    source = directory / "source.raw"
    copy_data(content, source)
    pair = ours.distant_pair(stack, source, size_bytes, directory, link, context.copy_seconds_max(size_bytes))
    for site in ("az1", "az2"):
        chill(pair.path(site, 0))
    return pair


def _latency(context: Context, link: Link, pair: WorkerPair, directory: Path, result: CaseResult) -> list[Contender]:
    """Return one write at a time, and what plain TCP takes for a byte there and back."""
    added_ms = link.round_trip_seconds * 1000
    writes = Series(f"qd1-{added_ms:g}ms", f"write, QD1, {added_ms:g} ms added", "ms")
    trips = Series(f"trip-{added_ms:g}ms", f"round trip of plain TCP, {added_ms:g} ms added", "ms")

    def measure_write(number: int) -> Sample:
        seed = context.options.seed + number
        run = run_fio(pair.uri(0), QD1, _size_bytes(context), context.options.seconds, seed, directory)
        return Sample(run.latency_mean_us / 1000, details={"latency_p99_ms": run.latency_p99_us / 1000})

    def measure_trip(number: int) -> Sample:
        seconds, rate = plain_tcp(link, context.options.seconds)
        return Sample(seconds * 1000, details={"plain_tcp_of_link_rate": rate / link.bytes_per_second})

    result.comparisons.append(Comparison(f"{added_ms:g} ms: 4 KiB write, QD1 ÷ plain round trip", writes, trips))
    result.limits.append(Limit(f"{added_ms:g} ms: round trip of plain TCP", trips, None))
    return [Contender(writes, measure_write), Contender(trips, measure_trip)]


def _deep(context: Context, link: Link, pair: WorkerPair, directory: Path, result: CaseResult) -> list[Contender]:
    """Return both deep queues, each next to what its rate and added round trip allow, without the proxy's own cost."""
    contenders = []
    for pattern in DEEP:
        ours_series = Series(pattern.name, pattern.title, pattern.unit)
        allowed = Series(f"{pattern.name}-allowed", f"what the link allows, {pattern.title}", pattern.unit)
        contenders.append(Contender(ours_series, partial(_measure_deep, context, pattern, pair, directory)))
        contenders.append(Contender(allowed, partial(_allowed, link, pattern)))
        title = f"{FAR_MS:g} ms: {pattern.title} ÷ link"
        result.comparisons.append(Comparison(title, ours_series, allowed, OVER_LINK_MIN))
    return contenders


def _measure_deep(context: Context, pattern: Pattern, pair: WorkerPair, directory: Path, number: int) -> Sample:
    seed = context.options.seed + number
    run = run_fio(pair.uri(0), pattern, _size_bytes(context), context.options.seconds, seed, directory)
    return Sample(run.speed(pattern), details={"latency_mean_us": run.latency_mean_us})


def _allowed(link: Link, pattern: Pattern, number: int) -> Sample:
    writes = link.writes_per_second_max(pattern.block_bytes, pattern.queue_depth)
    return Sample(writes if pattern.is_random else writes * pattern.block_bytes / MIB)
