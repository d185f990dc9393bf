"""When a worker has what spec in force, told by the process of the nodes to the process that asked for it.

Both run on one machine, whose monotonic clock `time.perf_counter` is the same for all processes on Linux.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from twinsite.messages import Replication, WorkerSpec

HEARD_SECONDS_MAX = 30.0
"""Longest wait for a spec to be in force."""
POLL_SECONDS = 0.001
_NAME = "in-force"


class InForceWriter:
    """Notes each spec at the moment when it comes into force."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / _NAME).open("a", buffering=1)

    def note(self, spec: WorkerSpec) -> None:
        """Note a spec that is in force now."""
        self._file.write(json.dumps([spec.id, spec.replication.value, time.perf_counter()]) + "\n")


class InForceReader:
    """Reads what was noted in a directory from now on."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / _NAME).open()
        self._file.read()
        self._unfinished = ""

    def wait(self, group_id: str, replication: Replication, since: float) -> float:
        """Return when a group's worker had a replication in force, not before `since`. Raises `BenchError`."""
        deadline = time.perf_counter() + HEARD_SECONDS_MAX
        while time.perf_counter() < deadline:
            *lines, self._unfinished = (self._unfinished + self._file.read()).split("\n")
            for noted_id, noted_replication, at in map(json.loads, lines):
                if (noted_id, noted_replication) == (group_id, replication.value) and at >= since:
                    return float(at)
            time.sleep(POLL_SECONDS)
        raise BenchError(f"the worker of group {group_id} was not told that it is to be {replication.value}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
