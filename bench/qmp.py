"""Just enough of the QEMU Machine Protocol to start a mirror job. Source: docs/interop/qmp-spec.txt of QEMU."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import BenchError

ANSWER_SECONDS_MAX = 20.0


class Qmp:
    """A session on a monitor's Unix socket; one command at a time."""

    def __init__(self, path: Path) -> None:
        """Connect and negotiate. Raises `BenchError`."""
        self._received = b""
        self._events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
            self._next(time.monotonic() + ANSWER_SECONDS_MAX)  # The greeting.
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise BenchError(f"QMP at {path}: {error}") from error

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its result. Raises `BenchError`."""
        message = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            answer = self._next(deadline)
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                raise BenchError(f"QMP {command}: {answer['error'].get('desc')}")
            else:
                return answer.get("return")

    def wait_job_ready(self, seconds_max: float) -> None:
        """Wait for the one block job to be ready: from then on it only mirrors. Raises `BenchError`."""
        deadline = time.monotonic() + seconds_max
        while True:
            event = self._events.pop(0) if self._events else self._next(deadline)
            if event.get("event") == "BLOCK_JOB_READY":
                return
            if event.get("event") in {"BLOCK_JOB_ERROR", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"}:
                raise BenchError(f"the mirror job ended early: {event}")

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._socket.recv(65536)
            except OSError as error:
                raise BenchError(f"QMP: {error}") from error
            if not chunk:
                raise BenchError("QMP: the daemon closed its monitor")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
