"""The volumes of a node on a real pool: what an extension does to them, and what it leaves when it is undone."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from twinsite.messages import DesiredVolume, ObservedVolume
from twinsite.node.pool import DirectoryPool
from twinsite.node.record import NodeRecord
from twinsite.node.settings import NodeSettings
from twinsite.node.volumes import Volumes

MIB = 1024 * 1024


class Site:
    """A node's volumes in a directory; `restart` is a node that starts anew."""

    def __init__(self, directory: Path) -> None:
        self.settings = NodeSettings("az1", "http://127.0.0.1:1", directory, token="t")
        self.settings.create_directories()
        self.pool = DirectoryPool(self.settings.pool_dir)
        self.restart()

    def restart(self) -> None:
        self.volumes = Volumes(self.settings, self.pool, NodeRecord.load(self.settings.record_path))
        self.volumes.find()

    def ensure(self, volume: DesiredVolume) -> ObservedVolume:
        is_usable = not self.volumes.ensure_all([volume])
        (observed,) = self.volumes.observed()
        assert is_usable == (observed.state == "ready")
        assert observed.store_bytes == (self.pool.size_bytes(volume.id) if is_usable else 0)
        return observed

    def path(self, volume: DesiredVolume) -> Path:
        return Path(self.pool.place(volume.id).path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def volume(site: Site) -> DesiredVolume:
    made = DesiredVolume(str(uuid.uuid4()), MIB, "SSD")
    assert site.ensure(made).store_bytes == MIB
    site.path(made).write_bytes(b"x" * MIB)
    return made


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond this, as a file system does that knows no larger ones."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("restarts", [False, True])
def test_room_is_made_and_then_becomes_the_volume(site: Site, volume: DesiredVolume, restarts: bool) -> None:
    for step in (
        replace(volume, room_bytes=3 * MIB),
        replace(volume, size_bytes=3 * MIB, room_bytes=3 * MIB),
        replace(volume, size_bytes=3 * MIB),
    ):
        if restarts:
            site.restart()
        observed = site.ensure(step)
        assert (observed.state, observed.store_bytes, observed.failure) == ("ready", 3 * MIB, None)
    assert site.path(volume).read_bytes() == b"x" * MIB + bytes(2 * MIB)


@pytest.mark.parametrize("restarts", [False, True])
def test_an_extension_that_is_undone_leaves_room_for_the_next(
    site: Site, volume: DesiredVolume, restarts: bool
) -> None:
    site.ensure(replace(volume, room_bytes=3 * MIB))
    for step in (volume, replace(volume, room_bytes=2 * MIB), replace(volume, size_bytes=2 * MIB)):
        if restarts:
            site.restart()
        assert site.ensure(step).store_bytes == 3 * MIB
    assert site.ensure(replace(volume, size_bytes=2 * MIB, room_bytes=4 * MIB)).store_bytes == 4 * MIB


def test_room_that_cannot_be_made_is_told_and_the_volume_stays_usable(site: Site, volume: DesiredVolume) -> None:
    wanted = replace(volume, room_bytes=3 * MIB)
    with largest_file(2 * MIB):
        observed = site.ensure(wanted)
        assert (observed.state, observed.store_bytes, observed.refused_bytes) == ("ready", MIB, 3 * MIB)
        assert observed.failure is not None
        assert "File too large" in observed.failure.message
        observed = site.ensure(volume)
        assert (observed.failure, observed.refused_bytes) == (None, 0)
    observed = site.ensure(wanted)
    assert (observed.store_bytes, observed.failure) == (3 * MIB, None)


def test_a_node_that_dies_while_it_makes_room_knows_why_the_store_is_larger(site: Site, volume: DesiredVolume) -> None:
    with largest_file(2 * MIB):
        site.ensure(replace(volume, room_bytes=3 * MIB))
    with site.path(volume).open("r+b") as file:
        file.truncate(3 * MIB)  # The death came after this, and before anything else.
    site.restart()
    assert site.ensure(volume).state == "ready"


def test_a_store_that_is_larger_for_no_known_reason_or_was_given_out_larger_is_refused(
    site: Site, volume: DesiredVolume
) -> None:
    site.ensure(replace(volume, size_bytes=2 * MIB, room_bytes=2 * MIB))
    observed = site.ensure(volume)
    assert observed.state == "error", "hosts may have written behind its old end"
    with site.path(volume).open("r+b") as file:
        file.truncate(5 * MIB)
    assert site.ensure(replace(volume, size_bytes=2 * MIB)).state == "error"
