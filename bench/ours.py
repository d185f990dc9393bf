"""How our side is run: real worker processes, as a node starts them, driven over their control sockets."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from pathlib import Path

from bench.errors import BenchError
from bench.link import LaidLink, Link
from bench.processes import cpu_seconds
from bench.running import Context
from bench.workspace import write_random_file
from tests.support.worker_process import WorkerPair, WorkerProcess
from twinsite.core.limits import EXTENT_BYTES
from twinsite.durable_file import SystemFiles
from twinsite.messages import MemberSpec, Mode, Replication, Role, StorePlace, WorkerSpec, WorkerStatus
from twinsite.nbd_client import NbdClient
from twinsite.worker.intent_log import load_intents
from twinsite.worker.state import StateDirectory

Pair = WorkerPair
"""A primary and a secondary worker of one group, and the arbiter between them."""
VOLUME_ID = "00000000-0000-4000-8000-000000000000"
COLD_SECONDS_MAX = 60.0
COLD_POLL_SECONDS = 0.2
COLD_EXTENTS_MAX = 8
"""What a log may name that counts as cold."""
COLD_STRIDE = 7
COLD_WRITE_BYTES = 4096


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


class UnrecordedWorker(WorkerProcess):
    """A worker that looks for cold extents as always and never finds one."""

    module = ("bench.worker_variants", "no-records")


class UnscannedWorker(WorkerProcess):
    """A worker that does not look for cold extents either."""

    module = ("bench.worker_variants", "no-scan")


class QuicklyCoolingWorker(WorkerProcess):
    """A worker whose log forgets in a second what nobody writes to."""

    module = ("bench.worker_variants", "quick-cooling")


class UnpackingWorker(WorkerProcess):
    """A worker that compresses nothing."""

    module = ("bench.worker_variants", "no-packing")


def paused_pair(
    stack: ExitStack,
    source: Path | None,
    size_bytes: int,
    directory: Path,
    kind: type[WorkerProcess] = WorkerProcess,
) -> WorkerPair:
    """Start a primary on `source`, which is moved into place under a second name, and an empty secondary.

    Without a source the primary's volume is one hole. `kind` is what runs as the primary.
    """
    if source is not None:
        primary_path = directory / "az1" / "0.raw"
        primary_path.parent.mkdir()
        primary_path.hardlink_to(source)
    pair = WorkerPair(directory, [size_bytes])
    stack.callback(pair.close)
    pair.primary = kind(pair.group_id, directory / "az1")
    pair.start()
    return pair


def random_pair(stack: ExitStack, context: Context, size_bytes: int, title: str) -> WorkerPair:
    """Return a pair in sync on a volume of random data. Raises what `bench.running.FAILURES` names."""
    directory = context.workspace.new_directory(stack)
    source = directory / "source.raw"
    context.say(f"{title}: first synchronization")
    write_random_file(source, size_bytes, context.options.seed)
    pair = paused_pair(stack, source, size_bytes, directory)
    pair.synchronize(seconds_max=context.copy_seconds_max(size_bytes))
    return pair


def timed_synchronize(pair: WorkerPair, seconds_max: float, endpoint: str | None = None) -> tuple[float, float]:
    """Synchronize; return the seconds that it took and the CPU seconds of both workers.

    With an endpoint, the secondary follows already and is reached there.
    """
    processes = pids(pair)
    cpu_before, begun = cpu_seconds(processes), time.perf_counter()
    if endpoint is None:
        pair.synchronize(seconds_max=seconds_max)
    else:
        pair.replicate(endpoint, seconds_max)
    return time.perf_counter() - begun, cpu_seconds(processes) - cpu_before


def cold_pair(
    stack: ExitStack, size_bytes: int, directory: Path, seconds_max: float, kind: type[WorkerProcess] = WorkerProcess
) -> WorkerPair:
    """Return a pair in sync on a volume that is one hole, whose intent log names next to nothing.

    A first synchronization leaves every extent named for a minute. A primary that cools quickly ends that; then one of
    the wanted kind takes its place. Raises `BenchError`.
    """
    pair = paused_pair(stack, None, size_bytes, directory, QuicklyCoolingWorker)
    pair.synchronize(seconds_max=seconds_max)
    _wait_cold(pair)
    pair.primary.stop()
    pair.primary = kind(pair.group_id, directory / "az1")
    pair.primary.start()
    pair.synchronize(seconds_max=seconds_max)
    return pair


def distant_pair(
    stack: ExitStack, source: Path, size_bytes: int, directory: Path, link: Link, seconds_max: float
) -> WorkerPair:
    """Return a pair in sync on `source` whose stream crosses the link. Raises `BenchError`."""
    pair, _ = linked_pair(stack, source, size_bytes, directory, link, seconds_max)
    return pair


def linked_pair(
    stack: ExitStack, source: Path, size_bytes: int, directory: Path, link: Link, seconds_max: float
) -> tuple[WorkerPair, LaidLink]:
    """Return what `distant_pair` does, and the link, which can be cut. Raises `BenchError`."""
    pair = paused_pair(stack, source, size_bytes, directory)
    laid = link.start(stack, pair.follow())
    pair.replicate(laid.endpoint, seconds_max)
    return pair, laid


def ask(pair: WorkerPair) -> WorkerStatus:
    """Return what the primary says of itself at this moment."""
    spec = pair.repeat("az1")
    return pair.primary.wait(lambda s: s.spec_version == spec.version, "heard")


def wait_in_sync(pair: WorkerPair, seconds_max: float) -> None:
    """Wait until the primary, asked anew, is in sync."""
    spec = pair.repeat("az1")
    pair.primary.wait(lambda s: s.spec_version >= spec.version and s.mode is Mode.IN_SYNC, "in sync", seconds_max)


def logged_bytes(pair: WorkerPair) -> int:
    """Return what the primary's log names, by reading the file as the next process will."""
    directory = StateDirectory(pair.directory / "az1" / "state")
    members = [MemberSpec(0, pair.volume_id(0), pair.sizes_bytes[0])]
    maps = load_intents(SystemFiles(), directory.intent_path, members)
    if 0 not in maps:
        raise BenchError("the primary left no intent log")
    return sum(count for _, count in maps[0].runs()) * EXTENT_BYTES


def pids(pair: WorkerPair) -> list[int]:
    """Return the processes of both sites."""
    return [pair.primary.pid, pair.secondary.pid]


def _wait_cold(pair: WorkerPair) -> None:
    """Write to one extent after the other until a record of one brings the ends of the others into the log."""
    deadline = time.perf_counter() + COLD_SECONDS_MAX
    extent_count = pair.sizes_bytes[0] // EXTENT_BYTES
    with NbdClient(pair.uri(0)) as client:
        for number in itertools.count():
            client.write(number * COLD_STRIDE % extent_count * EXTENT_BYTES, bytes(COLD_WRITE_BYTES))
            if logged_bytes(pair) <= COLD_EXTENTS_MAX * EXTENT_BYTES:
                return
            if time.perf_counter() > deadline:
                raise BenchError("the intent log did not go cold")
            time.sleep(COLD_POLL_SECONDS)
