"""The demo's host: its records, and that it survives the loss of its connection without losing one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nbd_volume import serve_volume
from twinsite.core.limits import MIB
from twinsite.demo import writer as writer_module
from twinsite.demo.checks import count_records, read_record
from twinsite.demo.writer import LOG_BYTES, RECORD_BYTES, SCRATCH_BYTES, LiveWriter, make_record, record_number
from twinsite.errors import StorageFault

DISK_BYTES = LOG_BYTES + SCRATCH_BYTES
WAIT_SECONDS_MAX = 20.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as path:
        yield Path(path)


def wait_for_records(writer: LiveWriter, count: int) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    while writer.acknowledged < count:
        writer.check()
        assert time.monotonic() < give_up_at, f"only {writer.acknowledged} of {count} records in time"
        time.sleep(0.002)


def test_a_record_tells_its_number_and_damage() -> None:
    record = make_record(17)
    assert len(record) == RECORD_BYTES
    assert record_number(record) == 17
    assert make_record(17) != record
    for position in (0, 8, 15, 16, 24, RECORD_BYTES - 1):
        damaged = bytearray(record)
        damaged[position] ^= 1
        assert record_number(bytes(damaged)) is None
    assert record_number(record[:-1]) is None
    assert record_number(bytes(RECORD_BYTES)) is None


def test_every_acknowledged_record_is_on_the_disk(directory: Path) -> None:
    with serve_volume(directory, DISK_BYTES) as volume:
        writer = LiveWriter(volume.uri, seed=1)
        writer.start()
        wait_for_records(writer, 40)
        assert read_record(volume.file, writer.acknowledged)
        writer.stop()
        assert count_records(volume.file) == writer.acknowledged >= 40
        assert writer.reconnects == 0
        assert not read_record(volume.file, writer.acknowledged + 1)
        assert volume.content(LOG_BYTES, SCRATCH_BYTES).count(0) < SCRATCH_BYTES


def test_it_connects_again_when_the_server_moves(directory: Path) -> None:
    with serve_volume(directory, DISK_BYTES) as volume:
        writer = LiveWriter(volume.uri, seed=1)
        writer.start()
        wait_for_records(writer, 5)
    before = writer.acknowledged
    with serve_volume(directory, DISK_BYTES) as volume:
        wait_for_records(writer, before + 20)
        writer.stop()
        assert writer.reconnects >= 1
        assert count_records(volume.file) == writer.acknowledged


def test_a_disk_that_stays_away_ends_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RECONNECT_SECONDS_MAX", 0.1)
    writer = LiveWriter(f"nbd+unix:///disk?socket={directory}/nobody", seed=1)
    writer.start()
    with pytest.raises(StorageFault, match="No such file"):
        writer.stop(WAIT_SECONDS_MAX)


def test_a_refused_write_ends_it_at_once(directory: Path) -> None:
    with serve_volume(directory, MIB, read_only=True) as volume:
        writer = LiveWriter(volume.uri, seed=1)
        writer.start()
        with pytest.raises(StorageFault, match="not permitted"):
            wait_for_records(writer, 1)


def test_abandoning_it_does_not_wait_for_the_disk(directory: Path) -> None:
    writer = LiveWriter(f"nbd+unix:///disk?socket={directory}/nobody", seed=1)
    writer.start()
    writer.abandon()
    with pytest.raises(StorageFault):
        writer.stop(WAIT_SECONDS_MAX)
