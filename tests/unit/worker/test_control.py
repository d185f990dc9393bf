"""The control socket: specs in, statuses out, and nobody's nonsense disturbs the others."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from tests.support.stream import WAIT_SECONDS
from twinsite.messages import Mode, Replication, Role, WorkerSpec, WorkerStatus, from_wire, to_wire
from twinsite.worker.control import CONNECTIONS_MAX, LINE_BYTES_MAX, ControlServer

SPEC = WorkerSpec("group", 1, Role.PRIMARY, 1, Replication.PAUSED, [], "ab" * 32)
STATUS = WorkerStatus("group", 1, Role.PRIMARY, Mode.PAUSED, 1, [])


class Bench:
    """A control server whose specs and status belong to the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.specs: list[WorkerSpec] = []
        self.status: WorkerStatus | None = STATUS
        self.server = ControlServer(path, self.specs.append, lambda: self.status)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path), limit=LINE_BYTES_MAX)


@pytest.fixture(name="bench")
async def fixture_bench(directory: Path) -> AsyncIterator[Bench]:
    bench = Bench(directory / "ctl")
    await bench.server.listen()
    yield bench
    await bench.server.close()


async def status_of(reader: asyncio.StreamReader) -> WorkerStatus:
    async with asyncio.timeout(WAIT_SECONDS):
        return from_wire(WorkerStatus, json.loads(await reader.readline()))


def line(spec: WorkerSpec) -> bytes:
    return json.dumps(to_wire(spec)).encode() + b"\n"


async def test_who_connects_is_told_the_status_and_again_after_each_spec(bench: Bench) -> None:
    reader, writer = await bench.connect()
    assert await status_of(reader) == STATUS
    writer.write(line(SPEC))
    assert await status_of(reader) == STATUS
    assert bench.specs == [SPEC]
    writer.close()


async def test_a_change_is_told_to_everybody_once(bench: Bench) -> None:
    connections = [await bench.connect() for _ in range(3)]
    for reader, _ in connections:
        await status_of(reader)
    bench.status = replace(STATUS, spec_version=2)
    bench.server.publish()
    bench.server.publish()
    bench.status = replace(STATUS, spec_version=3)
    bench.server.publish()
    for reader, writer in connections:
        assert [(await status_of(reader)).spec_version for _ in range(2)] == [2, 3]
        writer.close()


async def test_before_the_first_spec_there_is_nothing_to_say(bench: Bench) -> None:
    bench.status = None
    reader, writer = await bench.connect()
    bench.server.publish()
    bench.status = STATUS
    writer.write(line(SPEC))
    assert await status_of(reader) == STATUS
    writer.close()


@pytest.mark.parametrize(
    "nonsense",
    [b"\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n", b'{"id": 5}\n', line(SPEC).replace(b"primary", b"king")],
    ids=["empty", "no keys", "deep", "no text", "wrong type", "unknown role"],
)
async def test_a_line_that_is_no_spec_is_ignored(bench: Bench, nonsense: bytes) -> None:
    reader, writer = await bench.connect()
    await status_of(reader)
    writer.write(nonsense + line(SPEC))
    await status_of(reader)
    await status_of(reader)
    assert bench.specs == [SPEC]
    writer.close()


async def test_a_line_without_an_end_ends_its_connection_only(bench: Bench) -> None:
    reader, writer = await bench.connect()
    await status_of(reader)
    writer.write(b"x" * (3 * LINE_BYTES_MAX))
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(1)
    writer.close()
    reader, writer = await bench.connect()
    assert await status_of(reader) == STATUS
    writer.close()


async def test_a_connection_too_many_is_closed(bench: Bench) -> None:
    connections = [await bench.connect() for _ in range(CONNECTIONS_MAX)]
    for reader, _ in connections:
        await status_of(reader)
    reader, writer = await bench.connect()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await reader.read() == b""
    for _, each in [*connections, (reader, writer)]:
        each.close()


async def test_a_reader_that_does_not_read_is_let_go_and_memory_stays_bounded(bench: Bench) -> None:
    _, deaf = await bench.connect()
    reader, writer = await bench.connect()
    await status_of(reader)
    served = next(iter(bench.server._writers))
    for number in range(20):
        bench.status = replace(STATUS, id="x" * 200_000, spec_version=number)
        bench.server.publish()
        assert (await status_of(reader)).spec_version == number
        assert served.transport.get_write_buffer_size() <= LINE_BYTES_MAX + 300_000
    deaf.close()
    writer.close()


async def test_a_dead_workers_socket_is_replaced_and_only_the_owner_may_connect(bench: Bench) -> None:
    await bench.server.close()
    bench.path.touch()
    again = Bench(bench.path)
    await again.server.listen()
    assert os.stat(again.path).st_mode & 0o777 == 0o600
    reader, writer = await again.connect()
    assert await status_of(reader) == STATUS
    writer.close()
    await again.server.close()
    assert not again.path.exists()


def test_a_status_that_changes_while_a_connection_breaks_disturbs_nobody(directory: Path) -> None:
    """A node was killed, and the change came before the connection's task ran. uvloop, unlike asyncio, raises then."""

    async def story() -> None:
        bench = Bench(directory / "ctl")
        await bench.server.listen()
        reader, writer = await bench.connect()
        await status_of(reader)
        for each in bench.server._writers:
            each.transport.abort()
        await asyncio.sleep(0)  # The transport is closed by now, and the task that reads from it is only scheduled.
        bench.status = replace(STATUS, spec_version=2)
        bench.server.publish()
        await bench.server.close()
        writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
