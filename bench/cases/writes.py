"""Writes of one pattern: our worker alone and mirrored, nbdkit, and QEMU's active mirror, in turns.

A mirrored write crosses one TCP connection on the loopback on every side. QEMU's mirror is measured to two targets:
to a second QEMU, which is how it is meant, and to nbdkit, because QEMU's own server answers many writes at once only
after pauses of some 40 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import ours, peers
from bench.fio import QD32, Pattern, run_fio
from bench.processes import Server, cpu_seconds
from bench.results import CaseResult, Comparison, Sample, Series
from bench.running import FAILURES, Contender, Context, can_run, take_turns
from bench.workspace import chill, copy_data, make_sparse_file, write_random_file
from twinsite.core.limits import MIB

VOLUME_BYTES_MAX = 256 * MIB
"""Volume of these cases: it fits the page cache of any machine, since the servers are measured and not the disk."""
WARM_UP_SECONDS = 0.5
MIRRORED_OVER_QEMU_MIN = 20.0
MIRRORED_OVER_UNMIRRORED_MIN = 0.7

Started = tuple[Sequence[int], str]
"""The process ids whose CPU time counts, and the URI to write to."""
Starter = tuple[str, tuple[str, ...], Callable[[ExitStack, Path], Started]]
"""A contender's label, the programs it needs, and what starts it on `source.raw` in a directory."""
ServeTarget = Callable[[ExitStack, Path, Path, str], tuple[Server, int]]
"""Serves a file on a port of the loopback."""


def writes(pattern: Pattern, context: Context) -> CaseResult:
    """Measure one pattern. Every volume is dense, so that no write allocates space."""
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
            if not can_run(("fio", *tools), label, result):
                continue
            context.say(f"{pattern.title}: starting {label}")
            directory = context.workspace.new_directory(stack)
            copy_data(content, directory / "source.raw")
            try:
                pids, uri = start(stack, directory)
                for volume in directory.rglob("*.raw"):
                    chill(volume)
                _measure(
                    context, pattern, size_bytes, directory, pids, uri, min(WARM_UP_SECONDS, context.options.seconds), 0
                )
            except FAILURES as error:
                result.problems.append(f"{label} was not measured: {error}")
                continue
            unit = "writes/s" if pattern.is_random else "MiB/s"

            def measure(number: int, directory: Path = directory, pids: Sequence[int] = pids, uri: str = uri) -> Sample:
                seconds = context.options.seconds
                return _measure(context, pattern, size_bytes, directory, pids, uri, seconds, number)

            contenders[name] = Contender(Series(name, label, unit), measure)
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
        "mirrored": ("Twinsite, mirrored", (), mirrored),
        "qemu": ("QEMU active mirror to QEMU", ("qemu-storage-daemon",), partial(qemu, peers.qemu_tcp)),
        "qemu-nbdkit": (
            "QEMU active mirror to nbdkit",
            ("qemu-storage-daemon", "nbdkit"),
            partial(qemu, peers.nbdkit_tcp),
        ),
    }


def _measure(
    context: Context,
    pattern: Pattern,
    size_bytes: int,
    directory: Path,
    pids: Sequence[int],
    uri: str,
    seconds: float,
    number: int,
) -> Sample:
    cpu_before = cpu_seconds(pids)
    run = run_fio(uri, pattern, size_bytes, seconds, context.options.seed + number, directory)
    return Sample(
        value=run.writes_per_second if pattern.is_random else run.bytes_per_second / MIB,
        bytes_moved=run.bytes_written,
        cpu_seconds=cpu_seconds(pids) - cpu_before,
        details={"latency_mean_us": run.latency_mean_us, "latency_p99_us": run.latency_p99_us},
    )


def _compare(pattern: Pattern, contenders: dict[str, Contender], result: CaseResult) -> None:
    has_goals = pattern is QD32
    for title, ours_name, peer_name, goal in (
        ("unmirrored ÷ nbdkit", "unmirrored", "nbdkit", None),
        ("mirrored ÷ QEMU to QEMU", "mirrored", "qemu", MIRRORED_OVER_QEMU_MIN if has_goals else None),
        ("mirrored ÷ QEMU to nbdkit", "mirrored", "qemu-nbdkit", None),
        ("mirrored ÷ unmirrored", "mirrored", "unmirrored", MIRRORED_OVER_UNMIRRORED_MIN if has_goals else None),
    ):
        if ours_name in contenders and peer_name in contenders:
            ours_series, peer_series = contenders[ours_name].series, contenders[peer_name].series
            result.comparisons.append(Comparison(title, ours_series, peer_series, goal))
