"""Reads and writes of one pattern: our worker alone and mirrored, nbdkit, QEMU, its active mirror, the file, in turns.

A mirrored write crosses one TCP connection on the loopback on every side. QEMU's mirror is measured to two targets:
to a second QEMU, which is how it is meant, and to nbdkit, because QEMU's own server answers many writes at once only
after pauses of some 40 ms. The file without a server, reached by io_uring through the page cache, is the limit that no
server passes by much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import ours, peers
from bench.fio import QD1, QD32, SEQUENTIAL, Pattern, run_fio
from bench.fua import run_fua
from bench.machine import LIBNBD_BINDING
from bench.options import RAW
from bench.processes import Server, cpu_seconds, forget_memory_peaks, memory_peak_bytes
from bench.results import LATENCY_P50, LATENCY_P99, MEMORY_PEAK, CaseResult, Comparison, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.workspace import chill, copy_data, load, make_sparse_file, write_random_file
from twinsite.core.limits import MIB

VOLUME_BYTES_MAX = 256 * MIB
"""Volume of these cases: it fits the page cache of any machine, since the servers are measured and not the disk."""
WARM_UP_SECONDS = 0.5
PAIRS = (
    ("unmirrored", "nbdkit", "unmirrored ÷ nbdkit"),
    ("unmirrored", "qemu-plain", "unmirrored ÷ QEMU"),
    ("unmirrored", "raw", "unmirrored ÷ the file itself"),
    ("mirrored", "qemu", "mirrored ÷ QEMU to QEMU"),
    ("mirrored", "qemu-nbdkit", "mirrored ÷ QEMU to nbdkit"),
    ("mirrored", "nbdkit", "mirrored ÷ nbdkit unmirrored"),
    ("mirrored", "unmirrored", "mirrored ÷ unmirrored"),
)
"""Who is compared with whom, in each case where both were measured."""
SPEED_MIN: Mapping[tuple[Pattern, str, str], float] = {
    (QD32, "mirrored", "qemu"): 40.0,
    (QD32, "mirrored", "nbdkit"): 1.0,
    (QD32, "mirrored", "unmirrored"): 0.8,
    (SEQUENTIAL, "mirrored", "qemu"): 2.0,
}
LATENCY_MAX: Mapping[tuple[Pattern, str, str], float | None] = {
    (QD1, "mirrored", "qemu"): 0.6,
    (QD1, "mirrored", "qemu-nbdkit"): None,
}
"""Ratios of median latencies that are shown, and the most that they should be."""

Started = tuple[Sequence[int], str]
"""The process ids whose CPU time counts, and the URI to write to."""
Starter = tuple[str, tuple[str, ...], Callable[[ExitStack, Path], Started]]
"""A contender's label, the programs it needs, and what starts it on `source.raw` in a directory."""
ServeTarget = Callable[[ExitStack, Path, Path, str], tuple[Server, int]]
"""Serves a file on a port of the loopback."""


def writes(pattern: Pattern, context: Context) -> CaseResult:
    """Measure one pattern of reads or writes. Every volume is dense, so that no write allocates space."""
    result = CaseResult(pattern.name, pattern.title)
    size_bytes = min(context.options.size_bytes, VOLUME_BYTES_MAX)
    contenders = measure_writes(pattern, context, size_bytes, _starters(context, size_bytes), result)
    _compare(pattern, contenders, result)
    return result


def measure_writes(
    pattern: Pattern, context: Context, size_bytes: int, starters: Mapping[str, Starter], result: CaseResult
) -> dict[str, Contender]:
    """Start every server on a file `source.raw` of its own, all with one content, and let them take turns."""
    with ExitStack() as stack:
        content = context.workspace.new_directory(stack) / "content.raw"
        write_random_file(content, size_bytes, context.options.seed)
        contenders: dict[str, Contender] = {}
        for name, (label, tools, start) in starters.items():
            if pattern.has_fua and RAW in tools:
                continue  # FUA is a flag of NBD.
            loader = LIBNBD_BINDING if pattern.has_fua else "fio"
            programs = (loader, *(tool for tool in tools if tool != RAW))
            if not context.options.wants(*tools) or not can_run(programs, label, result):
                continue
            context.say(f"{pattern.title}: starting {label}")
            directory = context.workspace.new_directory(stack)
            copy_data(content, directory / "source.raw")
            try:
                pids, uri = start(stack, directory)
                for volume in directory.rglob("*.raw"):
                    chill(volume)
                    if pattern.read_percent:
                        load(volume)
                seconds = min(WARM_UP_SECONDS, context.options.seconds)
                measure_load(context, pattern, size_bytes, directory, pids, uri, seconds, 0)
            except FAILURES as error:
                result.problems.append(f"{label} was not measured: {error}")
                continue

            def measure(number: int, directory: Path = directory, pids: Sequence[int] = pids, uri: str = uri) -> Sample:
                seconds = context.options.seconds
                return measure_load(context, pattern, size_bytes, directory, pids, uri, seconds, number)

            contenders[name] = Contender(Series(name, label, pattern.unit), measure)
        take_turns(list(contenders.values()), context, result)
    return contenders


def _starters(context: Context, size_bytes: int) -> dict[str, Starter]:
    seconds_max = context.copy_seconds_max(size_bytes)

    def solo(stack: ExitStack, directory: Path) -> Started:
        worker, uri = ours.solo_worker(stack, directory / "source.raw", size_bytes, directory)
        return [worker.pid], uri

    def nbdkit(stack: ExitStack, directory: Path) -> Started:
        server, uri = peers.nbdkit_unix(stack, directory / "source.raw", directory, "nbdkit")
        return [server.pid], uri

    def qemu_plain(stack: ExitStack, directory: Path) -> Started:
        server, uri = peers.qemu_unix(stack, directory / "source.raw", directory, "qemu")
        return [server.pid], uri

    def raw(stack: ExitStack, directory: Path) -> Started:
        return [], str(directory / "source.raw")

    def mirrored(stack: ExitStack, directory: Path) -> Started:
        pair = ours.paused_pair(stack, directory / "source.raw", size_bytes, directory)
        pair.synchronize(seconds_max=seconds_max)
        return ours.pids(pair), pair.uri(0)

    def qemu(serve_target: ServeTarget, stack: ExitStack, directory: Path) -> Started:
        make_sparse_file(directory / "target.raw", size_bytes)
        far, port = serve_target(stack, directory / "target.raw", directory, "target")
        near, uri = peers.qemu_mirror(stack, directory / "source.raw", port, directory, seconds_max)
        return [near.pid, far.pid], uri

    return {
        "unmirrored": ("Twinsite, unmirrored", (), solo),
        "nbdkit": ("nbdkit file", ("nbdkit",), nbdkit),
        "qemu-plain": ("QEMU", ("qemu-storage-daemon",), qemu_plain),
        "raw": ("the file itself, io_uring", (RAW,), raw),
        "mirrored": ("Twinsite, mirrored", (), mirrored),
        "qemu": ("QEMU active mirror to QEMU", ("qemu-storage-daemon",), partial(qemu, peers.qemu_tcp)),
        "qemu-nbdkit": (
            "QEMU active mirror to nbdkit",
            ("qemu-storage-daemon", "nbdkit"),
            partial(qemu, peers.nbdkit_tcp),
        ),
    }


def measure_load(
    context: Context,
    pattern: Pattern,
    size_bytes: int,
    directory: Path,
    pids: Sequence[int],
    uri: str,
    seconds: float,
    number: int,
) -> Sample:
    """Load one target once. CPU time and peak of memory are of the processes `pids` together, during this run."""
    forget_memory_peaks(pids)
    cpu_before = cpu_seconds(pids)
    run_load = run_fua if pattern.has_fua else run_fio
    run = run_load(uri, pattern, size_bytes, seconds, context.options.seed + number, directory)
    memory = {MEMORY_PEAK: memory_peak_bytes(pids) / MIB} if pids else {}
    return Sample(
        value=run.speed(pattern),
        bytes_moved=run.bytes_moved,
        cpu_seconds=cpu_seconds(pids) - cpu_before,
        operations=run.requests,
        details={
            "latency_mean_us": run.latency_mean_us,
            LATENCY_P50: run.latency_p50_us,
            LATENCY_P99: run.latency_p99_us,
            **memory,
        },
    )


def _compare(pattern: Pattern, contenders: dict[str, Contender], result: CaseResult) -> None:
    measured = {name: contender.series for name, contender in contenders.items()}
    for ours_name, peer_name, title in PAIRS:
        if ours_name in measured and peer_name in measured:
            goal = SPEED_MIN.get((pattern, ours_name, peer_name))
            result.comparisons.append(Comparison(title, measured[ours_name], measured[peer_name], goal))
    latencies = {name: series.of_detail(LATENCY_P50, "median latency", "µs") for name, series in measured.items()}
    shown: set[str] = set()
    for ours_name, peer_name, title in PAIRS:
        key = (pattern, ours_name, peer_name)
        if key in LATENCY_MAX and ours_name in measured and peer_name in measured:
            pair = latencies[ours_name], latencies[peer_name]
            result.comparisons.append(Comparison(f"latency, {title}", *pair, LATENCY_MAX[key], goal_is_most=True))
            shown |= {ours_name, peer_name}
    result.series += [latencies[name] for name in measured if name in shown]
