"""Two real worker processes, of which one's disk fails flushes: a loop device whose file has no space any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pairs import SIZE, MakePair, pair_maker, write
from tests.support.stores import loop_device, needs_root, pattern, run
from twinsite.core.limits import MIB
from twinsite.messages import Mode, StorePlace
from twinsite.nbd_client import ConnectionLost, NbdClient

WRITTEN_BYTES = 16 * MIB


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


class ThinDevice:
    """A block device that promises more than there is: what it has no space for, it takes, and fails to flush."""

    def __init__(self, directory: Path, path: str) -> None:
        self._directory = directory
        self.path = path

    def grow(self, space_bytes: int) -> None:
        """Give it more space."""
        run("mount", "-o", f"remount,size={space_bytes}", str(self._directory))


@pytest.fixture(name="device")
def fixture_device(tmp_path: Path) -> Iterator[ThinDevice]:
    run("mount", "-t", "tmpfs", "-o", f"size={8 * MIB}", "tmpfs", str(tmp_path))
    try:
        with (tmp_path / "device").open("wb") as file:
            file.truncate(SIZE)
        with loop_device(tmp_path / "device") as path:
            yield ThinDevice(tmp_path, path)
    finally:
        run("umount", "--lazy", str(tmp_path))


@needs_root
def test_a_production_disk_that_cannot_flush_is_healed_from_the_other_site_and_hosts_lose_nothing(
    make_pair: MakePair, device: ThinDevice
) -> None:
    pair = make_pair([SIZE])
    pair.places["az1", 0] = StorePlace("block", device.path)
    pair.start()
    pair.synchronize()
    with NbdClient(pair.uri(0)) as client:
        for offset in range(0, WRITTEN_BYTES, MIB):
            client.write(offset, pattern(MIB, 1 + offset // MIB))
        with pytest.raises(ConnectionLost):
            client.flush()
    status = pair.primary.wait(lambda s: not s.members[0].serving, "showing its disk to nobody")
    assert status.doubtful
    assert pair.arbiter.has_in_sync(), "a failover is not refused"
    device.grow(4 * SIZE)
    pair.primary.wait(lambda s: s.mode is Mode.IN_SYNC and s.members[0].serving, "serving again")
    with NbdClient(pair.uri(0)) as client:
        client.flush()
        for offset in range(0, WRITTEN_BYTES, MIB):
            assert client.read(offset, MIB) == pattern(MIB, 1 + offset // MIB)
    assert "suspend_secondary" not in pair.arbiter.calls[pair.arbiter.calls.index("secondary_in_sync") :]


@needs_root
def test_a_dr_disk_that_cannot_flush_is_opened_anew_and_copied_to_again(
    make_pair: MakePair, device: ThinDevice
) -> None:
    pair = make_pair([SIZE])
    pair.places["az2", 0] = StorePlace("block", device.path)
    pair.start()
    pair.synchronize()
    write(pair, 0, 0, pattern(WRITTEN_BYTES))
    with NbdClient(pair.uri(0)) as client:
        client.flush()
    pair.primary.wait(lambda s: s.mode is not Mode.IN_SYNC and s.failure is not None, "alone")
    device.grow(4 * SIZE)
    endpoint = pair.secondary.wait(lambda s: s.doubtful, "in doubt").stream_endpoint
    assert endpoint is not None

    def is_back() -> bool:
        status = pair.secondary.status
        return status is not None and status.stream_endpoint not in (None, endpoint)

    pair.secondary.wait(lambda s: is_back(), "listening anew")
    pair.synchronize()
    pair.pause()
    assert Path(device.path).read_bytes()[:SIZE] == pair.path("az1", 0).read_bytes()
