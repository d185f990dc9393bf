"""Load on many exports at once: one fio process with a job for each, so that they begin and end together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.fio import START_SECONDS, Pattern
from bench.processes import run


def sum_of_writes(
    uris: Sequence[str], pattern: Pattern, size_bytes: int, seconds: float, seed: int, directory: Path
) -> float:
    """Write to every export for `seconds`, each with the pattern's depth; return writes/s, all exports together.

    Raises `BenchError`, also when one of the exports took no write.
    """
    command = [
        "fio",
        "--ioengine=nbd",
        f"--rw={'randwrite' if pattern.is_random else 'write'}",
        f"--bs={pattern.block_bytes}",
        f"--iodepth={pattern.queue_depth}",
        f"--size={size_bytes}",
        f"--runtime={int(seconds * 1000)}ms",
        "--time_based=1",
        "--norandommap=1",
        f"--randseed={seed}",
        "--refill_buffers=0",
        "--thread=1",
        "--output-format=json",
    ]
    # What stands before the first name goes for all jobs.
    for number, uri in enumerate(uris):
        command += [f"--name=job{number}", f"--uri={uri}"]
    finished = run(command, directory / "fio.json", seconds + START_SECONDS)
    try:
        # The engine's library may print a warning before the document.
        jobs: list[dict[str, Any]] = json.loads(finished.output[finished.output.find("{") :])["jobs"]
        rates = [float(job["write"]["iops"]) for job in jobs if not job["error"]]
    except (ValueError, KeyError) as error:
        raise BenchError(f"fio wrote no result: {finished.output[:500]!r}") from error
    if len(rates) != len(uris) or not all(rates):
        raise BenchError(f"fio wrote to {sum(rate > 0 for rate in rates)} of {len(uris)} exports")
    return sum(rates)
