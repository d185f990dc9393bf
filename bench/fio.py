"""Load on an NBD server, or on a file without one: fio, and what its JSON says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.processes import run
from twinsite.core.limits import KIB, MIB

START_SECONDS = 30.0
"""How much longer than its run fio may take."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of load. `queue_depth` is of each connection; `read_percent` is 100 for reads and 0 for writes.

    With `has_fua` each write carries the flag, and `bench.fua` makes the load instead of fio.
    """

    name: str
    title: str
    is_random: bool
    block_bytes: int
    queue_depth: int
    connections: int = 1
    read_percent: int = 0
    flushes_each: bool = False
    has_fua: bool = False

    @property
    def unit(self) -> str:
        """Return the unit of its speed: large requests are judged by their bytes."""
        if not self.is_random:
            return "MiB/s"
        return {0: "writes/s", 100: "reads/s"}.get(self.read_percent, "requests/s")

    @property
    def direction(self) -> str:
        """Return what fio calls it."""
        kind = {0: "write", 100: "read"}.get(self.read_percent, "rw")
        return f"rand{kind}" if self.is_random else kind


QD1 = Pattern("qd1", "4 KiB random writes, QD1", True, 4 * KIB, 1)
QD8 = Pattern("qd8", "4 KiB random writes, QD8", True, 4 * KIB, 8)
QD32 = Pattern("qd32", "4 KiB random writes, QD32", True, 4 * KIB, 32)
QD128 = Pattern("qd128", "4 KiB random writes, QD128", True, 4 * KIB, 128)
CONNECTIONS = Pattern("connections", "4 KiB random writes, 4 connections of QD8", True, 4 * KIB, 8, connections=4)
SEQUENTIAL = Pattern("sequential", "1 MiB sequential writes, QD8", False, MIB, 8)
FLUSHED = Pattern("flushed", "4 KiB random writes, each then flushed", True, 4 * KIB, 1, flushes_each=True)
FUA = Pattern("fua", "4 KiB random writes with FUA, QD8", True, 4 * KIB, 8, has_fua=True)
READ_QD1 = Pattern("read-qd1", "4 KiB random reads, QD1", True, 4 * KIB, 1, read_percent=100)
READ_QD32 = Pattern("read-qd32", "4 KiB random reads, QD32", True, 4 * KIB, 32, read_percent=100)
MIXED = Pattern("mixed", "4 KiB random, 70 % reads, QD32", True, 4 * KIB, 32, read_percent=70)


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What one run did, reads and writes together. Latencies are of whole requests, in microseconds.

    Of a mixed load, the percentiles are those of the direction that is slower.
    """

    requests_per_second: float
    bytes_per_second: float
    bytes_moved: int
    requests: int
    latency_mean_us: float
    latency_p50_us: float
    latency_p99_us: float

    def speed(self, pattern: Pattern) -> float:
        """Return the speed in the unit of the pattern that was run."""
        return self.requests_per_second if pattern.is_random else self.bytes_per_second / MIB


def run_fio(
    target: str,
    pattern: Pattern,
    size_bytes: int,
    seconds: float,
    seed: int,
    directory: Path,
    write_count: int | None = None,
) -> LoadRun:
    """Load the export for `seconds`, or until `write_count` requests are done. Raises `BenchError`.

    `target` is an NBD URI, or the path of a file, which io_uring then reaches without any server and through the page
    cache. With a count, `seconds` is the longest time that the requests may take.
    """
    job = ["--name=bench", *_engine(target, pattern), f"--numjobs={pattern.connections}", "--group_reporting=1"]
    # A run by time goes on when it has moved as much as the volume holds.
    end = "--time_based=1" if write_count is None else f"--number_ios={write_count}"
    found = _run_jobs([*_load(pattern, size_bytes, seconds, seed), end, *job], seconds, directory)
    result = found[0]
    sides = [result[side] for side in ("read", "write") if result[side]["total_ios"]]
    if result.get("error") or not sides:
        raise BenchError(f"fio moved nothing on {target}: error {result.get('error')}")
    requests = sum(int(side["total_ios"]) for side in sides)
    return LoadRun(
        requests_per_second=sum(float(side["iops"]) for side in sides),
        bytes_per_second=sum(float(side["bw_bytes"]) for side in sides),
        bytes_moved=sum(int(side["io_bytes"]) for side in sides),
        requests=requests,
        latency_mean_us=sum(float(side["clat_ns"]["mean"]) * int(side["total_ios"]) for side in sides)
        / requests
        / 1000,
        latency_p50_us=max(_percentile_us(side, "50.000000") for side in sides),
        latency_p99_us=max(_percentile_us(side, "99.000000") for side in sides),
    )


def sum_of_writes(
    uris: Sequence[str], pattern: Pattern, size_bytes: int, seconds: float, seed: int, directory: Path
) -> float:
    """Write to every export for `seconds`, each with the pattern's depth; return writes/s, all exports together.

    One fio has a job for each, so that they begin and end together. Raises `BenchError`, also when one of the exports
    took no write.
    """
    command = [*_load(pattern, size_bytes, seconds, seed), "--time_based=1"]
    # What stands before the first name goes for all jobs.
    for number, uri in enumerate(uris):
        command += [f"--name=job{number}", *_engine(uri, pattern)]
    rates = [float(job["write"]["iops"]) for job in _run_jobs(command, seconds, directory) if not job["error"]]
    if len(rates) != len(uris) or not all(rates):
        raise BenchError(f"fio wrote to {sum(rate > 0 for rate in rates)} of {len(uris)} exports")
    return sum(rates)


def _load(pattern: Pattern, size_bytes: int, seconds: float, seed: int) -> list[str]:
    """Return fio and the options of a pattern, which go for all the jobs that follow them."""
    mix = [f"--rwmixread={pattern.read_percent}"] if 0 < pattern.read_percent < 100 else []
    return [
        "fio",
        f"--rw={pattern.direction}",
        f"--bs={pattern.block_bytes}",
        f"--iodepth={pattern.queue_depth}",
        f"--size={size_bytes}",
        f"--runtime={int(seconds * 1000)}ms",
        "--norandommap=1",
        f"--randseed={seed}",
        "--refill_buffers=0",
        "--thread=1",
        "--output-format=json",
        *mix,
    ]


def _run_jobs(command: list[str], seconds: float, directory: Path) -> list[dict[str, Any]]:
    """Run fio and return what it says of each job, of at least one. Raises `BenchError`."""
    finished = run(command, directory / "fio.json", seconds + START_SECONDS)
    # The engine's library may print a warning before the document.
    start = finished.output.find("{")
    try:
        jobs: list[dict[str, Any]] = json.loads(finished.output[start:])["jobs"]
    except (ValueError, KeyError) as error:
        raise BenchError(f"fio wrote no result: {finished.output[:500]!r}") from error
    if not jobs:
        raise BenchError(f"fio wrote no result: {finished.output[:500]!r}")
    return jobs


def _engine(target: str, pattern: Pattern) -> list[str]:
    """Return what reaches the target. fio's nbd engine knows one kind of flush, and refuses the name of the other."""
    if target.startswith("nbd"):
        return ["--ioengine=nbd", f"--uri={target}", *(("--fsync=1",) if pattern.flushes_each else ())]
    flush = ("--fdatasync=1",) if pattern.flushes_each else ()
    return ["--ioengine=io_uring", f"--filename={target}", "--direct=0", "--allow_file_create=0", *flush]


def _percentile_us(side: dict[str, Any], percentile: str) -> float:
    return float(side["clat_ns"].get("percentile", {}).get(percentile, 0)) / 1000
