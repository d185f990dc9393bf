"""A served volume for real NBD peers: the server on an event loop of its own in a thread, on a file."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.device import ExportInfo
from twinsite.worker.nbd_server import NbdServer
from twinsite.worker.store_device import StoreDevice

MIB = 1024 * 1024
START_SECONDS_MAX = 60.0
PEER_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class ServedVolume:
    """Where a volume is to be found."""

    name: str
    size_bytes: int
    file: Path
    uri: str
    tcp_uri: str

    def content(self, offset: int, length: int) -> bytes:
        """Return what the file holds."""
        with self.file.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def put(self, offset: int, data: bytes) -> None:
        """Change the file behind the server's back, before any client has looked."""
        with self.file.open("r+b") as file:
            file.seek(offset)
            file.write(data)


@contextlib.contextmanager
def serve_volume(
    directory: Path, size_bytes: int = 64 * MIB, *, name: str = "vol", read_only: bool = False
) -> Iterator[ServedVolume]:
    """Serve a new sparse file in `directory` on a Unix socket and a TCP port until the block ends."""
    file = directory / f"{name}.raw"
    socket_path = directory / f"{name}.sock"
    create_file_store(str(file), size_bytes)
    store = FileStore(str(file), size_bytes)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def run() -> None:
        info = ExportInfo(name, "a test volume", size_bytes, read_only=read_only, can_fast_zero=store.can_punch)
        stop = asyncio.Event()
        with ThreadPoolExecutor(4) as executor:
            device = StoreDevice(info, store, executor)
            server = NbdServer()
            try:
                server.add_export(device)
                await server.listen_unix(str(socket_path))
                port = await server.listen_tcp("127.0.0.1", 0)
                started.set_result((asyncio.get_running_loop(), stop, port))
                await stop.wait()
            except BaseException as error:
                if not started.done():
                    started.set_exception(error)
                raise
            finally:
                await server.close()
                await device.drain()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=run_loop, name=f"nbd-{name}")
    thread.start()
    try:
        loop, stop, port = started.result(START_SECONDS_MAX)
        try:
            yield ServedVolume(
                name,
                size_bytes,
                file,
                f"nbd+unix:///{name}?socket={socket_path}",
                f"nbd://127.0.0.1:{port}/{name}",
            )
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join(START_SECONDS_MAX)
        store.close()
    assert not thread.is_alive()


def run_peer(*command: str, fails: bool = False) -> str:
    """Run a real NBD client and return what it printed; skip the test when it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PEER_SECONDS_MAX, check=False
    )
    assert (done.returncode != 0) == fails, f"{command} returned {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
