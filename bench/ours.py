"""How our side is run: real worker processes, as a node starts them, driven over their control sockets."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.worker_process import WorkerPair, WorkerProcess
from twinsite.messages import MemberSpec, Replication, Role, StorePlace, WorkerSpec

VOLUME_ID = "00000000-0000-4000-8000-000000000000"


def solo_worker(stack: ExitStack, path: Path, size_bytes: int, directory: Path) -> tuple[WorkerProcess, str]:
    """Serve a file unmirrored on a Unix socket until the stack ends; return the worker and its URI."""
    socket_path = directory / "solo.sock"
    worker = WorkerProcess(VOLUME_ID, directory)
    stack.callback(worker.kill)
    worker.start()
    member = MemberSpec(0, VOLUME_ID, size_bytes, StorePlace("file", str(path)), str(socket_path))
    worker.send(WorkerSpec(VOLUME_ID, 1, Role.SOLO, 1, Replication.PAUSED, [member]))
    worker.wait(lambda status: bool(status.members) and status.members[0].serving, "serving")
    return worker, f"nbd+unix:///{VOLUME_ID}?socket={socket_path}"


def paused_pair(stack: ExitStack, source: Path, size_bytes: int, directory: Path) -> WorkerPair:
    """Start a primary on `source`, which is moved into place under a second name, and an empty secondary."""
    primary_path = directory / "az1" / "0.raw"
    primary_path.parent.mkdir()
    primary_path.hardlink_to(source)
    pair = WorkerPair(directory, [size_bytes])
    stack.callback(pair.close)
    pair.start()
    return pair


def pids(pair: WorkerPair) -> list[int]:
    """Return the processes of both sites."""
    return [pair.primary.pid, pair.secondary.pid]
