"""Load on an NBD server: fio with its nbd engine, and what its JSON says."""

from __future__ import annotations

import json
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
    """A kind of write load on one connection."""

    name: str
    title: str
    is_random: bool
    block_bytes: int
    queue_depth: int


QD1 = Pattern("qd1", "4 KiB random writes, QD1", True, 4 * KIB, 1)
QD32 = Pattern("qd32", "4 KiB random writes, QD32", True, 4 * KIB, 32)
SEQUENTIAL = Pattern("sequential", "1 MiB sequential writes, QD8", False, MIB, 8)


@dataclass(frozen=True, slots=True)
class FioRun:
    """What one run wrote. Latencies are of whole requests, in microseconds."""

    writes_per_second: float
    bytes_per_second: float
    bytes_written: int
    latency_mean_us: float
    latency_p99_us: float


def run_fio(
    uri: str,
    pattern: Pattern,
    size_bytes: int,
    seconds: float,
    seed: int,
    directory: Path,
    write_count: int | None = None,
) -> FioRun:
    """Write to the export for `seconds`, or until `write_count` writes are done. Raises `BenchError`.

    With a count, `seconds` is the longest time that they may take.
    """
    command = [
        "fio",
        "--name=bench",
        "--ioengine=nbd",
        f"--uri={uri}",
        f"--rw={'randwrite' if pattern.is_random else 'write'}",
        f"--bs={pattern.block_bytes}",
        f"--iodepth={pattern.queue_depth}",
        f"--size={size_bytes}",
        f"--runtime={int(seconds * 1000)}ms",
        "--norandommap=1",
        f"--randseed={seed}",
        "--refill_buffers=0",
        "--thread=1",
        "--output-format=json",
    ]
    # A run by time goes on when it has written as much as the volume holds.
    command.append("--time_based=1" if write_count is None else f"--number_ios={write_count}")
    finished = run(command, directory / "fio.json", seconds + START_SECONDS)
    # The engine's library may print a warning before the document.
    start = finished.output.find("{")
    try:
        job: dict[str, Any] = json.loads(finished.output[start:])["jobs"][0]
    except (ValueError, KeyError, IndexError) as error:
        raise BenchError(f"fio wrote no result: {finished.output[:500]!r}") from error
    write = job["write"]
    if job.get("error") or not write["total_ios"]:
        raise BenchError(f"fio wrote nothing to {uri}: error {job.get('error')}")
    latency = write["clat_ns"]
    return FioRun(
        writes_per_second=float(write["iops"]),
        bytes_per_second=float(write["bw_bytes"]),
        bytes_written=int(write["io_bytes"]),
        latency_mean_us=float(latency["mean"]) / 1000,
        latency_p99_us=float(latency.get("percentile", {}).get("99.000000", 0)) / 1000,
    )
