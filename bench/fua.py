"""Load of writes with FUA on an NBD server, by libnbd: fio's nbd engine cannot set that flag."""

from __future__ import annotations

import json
from pathlib import Path

from bench.errors import BenchError
from bench.fio import START_SECONDS, LoadRun, Pattern
from bench.machine import SYSTEM_PYTHON
from bench.processes import run

SCRIPT = Path(__file__).with_name("fua_load.py")


def run_fua(uri: str, pattern: Pattern, size_bytes: int, seconds: float, seed: int, directory: Path) -> LoadRun:
    """Write to random places of the export for `seconds`, every write with FUA. Raises `BenchError`."""
    numbers = (size_bytes, pattern.block_bytes, pattern.queue_depth, seconds, seed)
    command = [SYSTEM_PYTHON, str(SCRIPT), uri, *map(str, numbers)]
    finished = run(command, directory / "fua.json", seconds + START_SECONDS)
    try:
        found: dict[str, float] = json.loads(finished.output)
        requests, taken = int(found["requests"]), found["seconds"]
        return LoadRun(
            requests_per_second=requests / taken,
            bytes_per_second=requests * pattern.block_bytes / taken,
            bytes_moved=requests * pattern.block_bytes,
            requests=requests,
            latency_mean_us=found["mean_us"],
            latency_p50_us=found["p50_us"],
            latency_p99_us=found["p99_us"],
        )
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise BenchError(f"the writer with FUA gave no result: {finished.output[:500]!r}") from error
