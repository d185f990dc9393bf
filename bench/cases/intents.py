"""What the intent log costs: the same build with it and without it, on a hot set and from cold.

On a hot set every write finds its extent recorded, and the log is only looked at. From cold, the first write to each
extent waits until a record is durable; many writes at once share that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import ours
from bench.cases.writes import VOLUME_BYTES_MAX, Started, Starter, measure_writes
from bench.fio import QD32, run_fio
from bench.processes import cpu_seconds
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import Contender, Context, can_run, take_turns
from tests.support.worker_process import WorkerProcess
from twinsite.core.limits import EXTENT_BYTES

LOGGED_OVER_UNLOGGED_MIN = 0.9
COLD_SIZE_FACTOR = 16
"""The disk of the cold case is so many times the run's size: 16 GiB by default."""
COLD_WRITES_PER_EXTENT = 4
"""Random places: after so many writes an extent, 98 of 100 extents were touched."""
COLD_WRITES_MIN = 1024
"""Fewer are over before fio, which counts whole milliseconds, can tell how long they took."""
COLD_SECONDS_MAX = 120.0

KINDS: Mapping[str, tuple[str, type[WorkerProcess]]] = {
    "logged": ("with the log", WorkerProcess),
    "unrecorded": ("without records", ours.UnrecordedWorker),
    "unscanned": ("without records and scan", ours.UnscannedWorker),
}


def hot_set(context: Context) -> CaseResult:
    """Measure mirrored 4 KiB random writes, queue depth 32, to a volume that is recorded as a whole."""
    result = CaseResult("intents-hot", "intent log, QD32, hot set")
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)

    def mirrored(kind: type[WorkerProcess], stack: ExitStack, directory: Path) -> Started:
        pair = ours.paused_pair(stack, directory / "source.raw", size_bytes, directory, kind)
        pair.synchronize(seconds_max=context.copy_seconds_max(size_bytes))
        return ours.pids(pair), pair.uri(0)

    starters: dict[str, Starter] = {
        name: (f"mirrored, {label}", (), partial(mirrored, kind)) for name, (label, kind) in KINDS.items()
    }
    contenders = measure_writes(QD32, context, size_bytes, starters, result)
    _compare(contenders, result, LOGGED_OVER_UNLOGGED_MIN)
    return result


def from_cold(context: Context) -> CaseResult:
    """Measure mirrored 4 KiB random writes, queue depth 32, over a large sparse disk that nobody has written to."""
    result = CaseResult("intents-cold", "intent log, QD32, first pass from cold")
    if not can_run(("fio",), "mirrored", result):
        return result
    contenders = {
        name: Contender(Series(name, f"mirrored, {label}", "writes/s"), partial(_first_pass, context, kind))
        for name, (label, kind) in KINDS.items()
    }
    take_turns(list(contenders.values()), context, result)
    _compare(contenders, result, None)
    return result


def _first_pass(context: Context, kind: type[WorkerProcess], number: int) -> Sample:
    size_bytes = context.options.size_bytes * COLD_SIZE_FACTOR
    write_count = max(size_bytes // EXTENT_BYTES * COLD_WRITES_PER_EXTENT, COLD_WRITES_MIN)
    with ExitStack() as stack:
        directory = context.workspace.new_directory(stack)
        pair = ours.cold_pair(stack, size_bytes, directory, context.copy_seconds_max(size_bytes), kind)
        logged_before = ours.logged_bytes(pair)
        processes = ours.pids(pair)
        cpu_before = cpu_seconds(processes)
        seed = context.options.seed + number
        run = run_fio(pair.uri(0), QD32, size_bytes, COLD_SECONDS_MAX, seed, directory, write_count)
        return Sample(
            value=run.requests_per_second,
            bytes_moved=run.bytes_moved,
            cpu_seconds=cpu_seconds(processes) - cpu_before,
            details={
                "latency_mean_us": run.latency_mean_us,
                "latency_p99_us": run.latency_p99_us,
                "newly_logged_extents": (ours.logged_bytes(pair) - logged_before) / EXTENT_BYTES,
            },
        )


def _compare(contenders: Mapping[str, Contender], result: CaseResult, goal: float | None) -> None:
    for peer_name in ("unrecorded", "unscanned"):
        if "logged" in contenders and peer_name in contenders:
            title = f"with the log ÷ {KINDS[peer_name][0]}"
            logged, peer = contenders["logged"].series, contenders[peer_name].series
            result.comparisons.append(Comparison(title, logged, peer, goal))
