"""How long hosts wait for writes and flushes of a volume outside any group."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.worker.test_store_device import (
    FUA,
    SIZE_BYTES,
    WAIT_SECONDS_MAX,
    GatedStore,
    Sink,
    plain,
    write,
)
from twinsite.core.nbd.constants import Command
from twinsite.latency import LatencyRecorder
from twinsite.messages import MemberSpec
from twinsite.stores.file import FileStore, create_file_store
from twinsite.worker.measured_device import MeasuredDevice

DATA = b"d" * 512


@pytest.fixture(name="gated")
def fixture_gated(tmp_path: Path) -> Iterator[GatedStore]:
    """A file that lets everything through until told otherwise."""
    path = str(tmp_path / "vol.raw")
    create_file_store(path, SIZE_BYTES)
    made = GatedStore(FileStore(path, SIZE_BYTES))
    yield made
    made.close()


@pytest.fixture(name="measured")
async def fixture_measured(gated: GatedStore) -> AsyncIterator[MeasuredDevice]:
    """The device under test."""
    with ThreadPoolExecutor(2) as executor:
        made = MeasuredDevice(MemberSpec(0, "volume", SIZE_BYTES), gated, executor)
        yield made
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await made.drain()


def counts(device: MeasuredDevice) -> tuple[int, int]:
    """Return how many writes and flushes were timed."""

    def count(recorder: LatencyRecorder) -> int:
        return sum(recorder.latency().counts)

    return count(device.write_latency), count(device.flush_latency)


async def test_writes_are_counted_each_and_what_is_no_write_is_not(measured: MeasuredDevice) -> None:
    sink = Sink()
    pieces = [write(3, 8192, DATA, is_last=False), write(3, 8704, DATA)]
    zero = plain(Command.WRITE_ZEROES, 4, 0, 4096)
    measured.submit([write(1, 0, DATA), write(2, 4096, DATA), *pieces, zero], sink)
    assert counts(measured) == (3, 0)
    assert measured.activity().write_latency.seconds > 0
    measured.submit([plain(Command.READ, 5, 0, 512)], sink)
    assert counts(measured) == (3, 0)


async def test_flushes_count_when_they_are_done_and_writes_with_fua_among_them(
    measured: MeasuredDevice, gated: GatedStore
) -> None:
    sink = Sink()
    gated.is_gated = True
    measured.submit([plain(Command.FLUSH, 1), write(2, 0, DATA, flags=FUA)], sink)
    await gated.until_entered()
    assert counts(measured) == (0, 0)
    gated.let_through()
    await sink.answer(1)
    await sink.answer(2)
    assert counts(measured) == (0, 2)
    assert measured.activity().flush_latency.seconds > 0


async def test_what_fails_is_not_counted_and_leaves_nothing(measured: MeasuredDevice, gated: GatedStore) -> None:
    sink = Sink()
    gated.faults = {"flush": errno.EIO, "write": errno.EIO}
    measured.submit([plain(Command.FLUSH, 1), write(2, 0, DATA)], sink)
    await sink.answer(1)
    assert counts(measured) == (0, 0)
    assert not measured._flushes_at
