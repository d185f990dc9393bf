"""A secondary group in this process, on real files and a real port, and stores that tests can hold and break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.stream import KEY, WAIT_SECONDS, RawPrimary
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import PROTOCOL_VERSION
from twinsite.core.stream.hello import Hello
from twinsite.errors import StorageFault
from twinsite.messages import MemberSpec, Replication, Role, WorkerSpec
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.state import ReplicaState, StateDirectory

SIZE = 16 * BLOCK_BYTES
GROUP = "group"


class WatchedStore(FileStore):
    """A store whose flushes can be counted, whose reads and flushes can be held, and which can fail."""

    def __init__(self, path: str, size_bytes: int) -> None:
        super().__init__(path, size_bytes)
        self.flush_count = 0
        self.fails_flush = False
        self.fails_write = False
        self.may_flush = threading.Event()
        self.may_flush.set()
        self.is_flushing = threading.Event()
        self.may_read = threading.Event()
        self.may_read.set()
        self.is_reading = threading.Event()

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        self.is_reading.set()
        assert self.may_read.wait(WAIT_SECONDS), "a read was held for too long"
        super().read_into(buffer, offset)

    def flush(self) -> None:
        self.is_flushing.set()
        assert self.may_flush.wait(WAIT_SECONDS), "a flush was held for too long"
        if self.fails_flush:
            raise StorageFault("flush", self.path, OSError(5, "Input/output error"))
        super().flush()
        self.flush_count += 1

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.fails_write:
            raise StorageFault("write", self.path, OSError(28, "No space left on device"))
        super().write(data, offset)


class Follower:
    """A secondary group in this process, with its directory."""

    def __init__(self, directory: Path, sizes: dict[int, int]) -> None:
        self.directory = StateDirectory(directory / "state")
        self.sizes = sizes
        self.executor = ThreadPoolExecutor(4)
        self.changed = asyncio.Event()
        self.paths = {index: str(directory / f"{index}.raw") for index in range(4)}
        for path in self.paths.values():
            create_file_store(path, SIZE)
        self.stores: dict[int, WatchedStore] = {}

    async def start(self) -> None:
        self.stores = {index: WatchedStore(self.paths[index], size) for index, size in self.sizes.items()}
        self.state = self.directory.load()
        self.group = SecondaryGroup(
            self.spec(), self.stores, self.directory, self.state, self.executor, self.changed.set
        )
        await self.group.listen()

    async def stop(self) -> None:
        for store in self.stores.values():
            store.may_flush.set()
            store.may_read.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await self.group.close()
        for store in self.stores.values():
            store.close()

    def spec(self) -> WorkerSpec:
        members = [MemberSpec(index, f"volume {index}", size) for index, size in self.sizes.items()]
        return WorkerSpec(
            GROUP, 1, Role.SECONDARY, 1, Replication.RUNNING, members, "az2", KEY, stream_listen="127.0.0.1:0"
        )

    def hello(self, **changes: Any) -> Hello:
        members = [[index, size] for index, size in self.sizes.items()]
        return replace(Hello(PROTOCOL_VERSION, GROUP, 1, 1, members, "my nonce"), **changes)

    async def connect(self) -> RawPrimary:
        assert self.group.endpoint is not None
        return await RawPrimary.connect(self.group.endpoint)

    def content(self, index: int = 0) -> bytes:
        return Path(self.paths[index]).read_bytes()

    def saved(self) -> ReplicaState:
        return StateDirectory(self.directory.path).load()

    async def wait(self, wanted: Callable[[], bool], what: str) -> None:
        """Wait until something of the group has become true."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not wanted():
                    self.changed.clear()
                    try:
                        async with asyncio.timeout(0.01):
                            await self.changed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            pytest.fail(f"it did not come about: {what}")
