"""A worker in this process that a test drives by specs, with NBD clients in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.arbiter_server import TOKEN, ArbiterServer
from tests.support.stream import KEY, WAIT_SECONDS, FramePipe, RawSecondary, acknowledge, flushed
from twinsite.core.arbiter import Secondary
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.stream.frames import DIGEST_BYTES, SEED_BYTES, Frame, Kind, encode_header
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.messages import MemberSpec, Mode, Replication, Role, StorePlace, WorkerSpec, WorkerStatus
from twinsite.nbd_client import NbdClient
from twinsite.stores.file import create_file_store
from twinsite.worker.primary_group import PrimaryGroup
from twinsite.worker.worker import Worker

GROUP = "group"
SITE = "az1"
SIZE = 16 * BLOCK_BYTES


class Leader:
    """The worker of a group, in `directory` (a short one: it holds sockets), and an arbiter."""

    def __init__(self, directory: Path, members: int = 1, size_bytes: int = SIZE) -> None:
        self.directory = directory
        self.arbiter = ArbiterServer()
        self.members = [self.member(index, index, size_bytes) for index in range(members)]
        self.rested = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._spec: WorkerSpec | None = None

    def member(self, index: int, number: int, size_bytes: int = SIZE) -> MemberSpec:
        """The volume of a number as the member of an index."""
        path = self.directory / f"{number}.raw"
        create_file_store(str(path), size_bytes)
        place = StorePlace("file", str(path))
        return MemberSpec(index, f"volume{number}", size_bytes, place, str(self.directory / f"{number}.sock"))

    def start(self) -> None:
        """Start the worker; it has no spec yet."""
        self._stop.clear()
        self.worker = Worker(GROUP, self.directory / "ctl", self.directory / "state", came_to_rest=self.rested.set)
        self._task = asyncio.create_task(self.worker.run(self._stop))

    async def stop(self) -> None:
        """Stop cleanly."""
        self._stop.set()
        await self.ended()

    async def close(self) -> None:
        """Stop cleanly, and end the arbiter."""
        self.arbiter.is_reachable = True
        await self.stop()
        await asyncio.to_thread(self.arbiter.close)

    async def ended(self) -> None:
        """Wait until the worker has ended, and raise what it raised."""
        if self._task is not None:
            task, self._task = self._task, None
            async with asyncio.timeout(WAIT_SECONDS):
                await task

    def give(self, spec: WorkerSpec) -> WorkerSpec:
        """Give the worker a spec, as its next version."""
        version = 1 if self._spec is None else self._spec.version + 1
        self._spec = replace(spec, version=version)
        self.worker.take(self._spec)
        return self._spec

    def has_applied(self, spec: WorkerSpec) -> bool:
        """Say whether a spec has been acted on, be it in force or not."""
        return self.worker._applied is not None and self.worker._applied.version >= spec.version

    def spec(self, role: Role = Role.PRIMARY, endpoint: str | None = None, term: int = 1) -> WorkerSpec:
        """A spec: running if there is an endpoint."""
        wish = Replication.PAUSED if endpoint is None and role is Role.PRIMARY else Replication.RUNNING
        return WorkerSpec(
            id=GROUP,
            version=0,
            role=role,
            term=term,
            replication=wish,
            members=list(self.members),
            site=SITE,
            stream_key=KEY,
            arbiter_url=self.arbiter.url,
            arbiter_token=TOKEN,
            stream_listen="127.0.0.1:0",
            peer_endpoint=endpoint,
        )

    def group(self) -> PrimaryGroup:
        """The group that a primary runs."""
        group = self.worker._group
        assert isinstance(group, PrimaryGroup)
        return group

    def has_hosts(self) -> bool:
        """Say whether a host is connected that has asked for anything."""
        return bool(self.group()._sinks)

    def lead(self, term: int) -> None:
        """Let the arbiter have this site as primary at a term, with nobody in sync."""
        row = self.arbiter.row
        self.arbiter.row = replace(
            row, term=term, primary_site=SITE, secondary=Secondary.STALE, version=row.version + 1
        )

    async def put(self, spec: WorkerSpec) -> WorkerStatus:
        """Give a spec and wait until it is in force, and until a primary's volumes are served."""
        given = self.give(spec)

        def is_in_force(status: WorkerStatus) -> bool:
            is_served = given.role is Role.SECONDARY or all(member.serving for member in status.members)
            return status.spec_version == given.version and is_served

        return await self.wait(is_in_force, f"version {given.version} in force")

    async def pause(self) -> WorkerStatus:
        """Stop the replication and wait until that is in force."""
        return await self.put(self.spec())

    async def wait(self, wanted: Callable[[WorkerStatus], bool], what: str) -> WorkerStatus:
        """Wait until the status is as wanted."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    if self._task is not None and self._task.done():
                        await self.ended()
                    status = self.worker.status()
                    if status is not None and wanted(status):
                        return status
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"the worker did not become {what}: {self.worker.status()}")

    async def mode(self, mode: Mode) -> WorkerStatus:
        """Wait for a mode."""
        return await self.wait(lambda s: s.mode is mode, mode.value)

    def uri(self, number: int = 0) -> str:
        """The URI of a volume."""
        return f"nbd+unix:///volume{number}?socket={self.directory}/{number}.sock"

    async def write(self, offset: int, data: bytes, number: int = 0, *, fua: bool = False) -> None:
        """Write as a host does, and wait for the answer."""
        await asyncio.to_thread(self._write, offset, data, number, fua)

    def _write(self, offset: int, data: bytes, number: int, fua: bool) -> None:
        with NbdClient(self.uri(number), timeout_seconds=WAIT_SECONDS) as client:
            client.write(offset, data, fua=fua)

    async def read(self, offset: int, length: int, number: int = 0) -> bytes:
        """Read as a host does."""

        def read() -> bytes:
            with NbdClient(self.uri(number), timeout_seconds=WAIT_SECONDS) as client:
                return client.read(offset, length)

        return await asyncio.to_thread(read)


NEW = Welcome(1, "", consistent=False, doubt=Doubt.NONE)
"""What a secondary says that has never followed anybody."""


def image(generation: str, *, doubt: Doubt = Doubt.NONE) -> Welcome:
    """What a secondary says whose image is of a lineage and consistent."""
    return Welcome(1, generation, consistent=True, doubt=doubt)


async def take_resync(pipe: FramePipe) -> tuple[list[Frame], str]:
    """Take a resync up to its end, acknowledge it all and make the end durable; return its frames and its name.

    Whatever is compared is said to differ.
    """
    frames: list[Frame] = []
    name = ""
    while True:
        frame = await pipe.next()
        assert frame is not None, "the connection ended during a resync"
        frames.append(frame)
        await pipe.send(acknowledge(frame.sequence))
        if frame.kind in (Kind.COMPARE, Kind.COMPARE_ZERO):
            await pipe.send(differs(frame))
        if frame.kind == Kind.RESYNC_BEGIN:
            assert frame.payload is not None
            name = bytes(frame.payload).decode().split('"')[3]
        if frame.kind == Kind.RESYNC_END:
            await pipe.send(flushed(frame.sequence))
            return frames, name


def differs(frame: Frame) -> bytes:
    """The answer to a comparison that finds nothing equal."""
    if frame.kind == Kind.COMPARE_ZERO:
        count = -(-frame.length // BLOCK_BYTES)
    else:
        count = (frame.length - SEED_BYTES) // DIGEST_BYTES
    bits = b"\xff" * -(-count // 8)
    return encode_header(Kind.COMPARED, 0, frame.volume, len(bits), frame.sequence, 0, bits) + bits


async def in_sync(leader: Leader, secondary: RawSecondary, welcome: Welcome = NEW) -> tuple[FramePipe, str]:
    """Bring the group in sync."""
    leader.give(leader.spec(endpoint=secondary.endpoint))
    pipe, _ = await secondary.admit(welcome)
    _, name = await take_resync(pipe)
    await leader.mode(Mode.IN_SYNC)
    return pipe, name
