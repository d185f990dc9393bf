"""Pairs of worker processes for tests: a fixture's body, content for disks, and what "equal" means."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.stores import noise
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.messages import ResyncReport, WorkerStatus
from twinsite.nbd_client import NbdClient

MakePair = Callable[[Sequence[int]], WorkerPair]


@contextmanager
def pair_maker() -> Iterator[MakePair]:
    """Make pairs in short directories of their own; in the end no process and no directory is left."""
    pairs: list[WorkerPair] = []

    def make(sizes_bytes: Sequence[int]) -> WorkerPair:
        pairs.append(WorkerPair(Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp")), sizes_bytes))
        return pairs[-1]

    try:
        yield make
    finally:
        for pair in pairs:
            pair.close()
            shutil.rmtree(pair.directory)


def fill(pair: WorkerPair, index: int, blocks: Sequence[int], seed: int = 1) -> None:
    """Put data into blocks of a production disk before its worker opens it."""
    with pair.path("az1", index).open("r+b") as disk:
        for block in blocks:
            disk.seek(block * BLOCK_BYTES)
            disk.write(noise(BLOCK_BYTES, seed + block))


def write(pair: WorkerPair, index: int, offset: int, data: bytes) -> None:
    """Write as a host does."""
    with NbdClient(pair.uri(index)) as client:
        client.write(offset, data)


def assert_equal(pair: WorkerPair) -> None:
    """Every disk of the group holds the same bytes at both sites."""
    for index in range(len(pair.sizes_bytes)):
        if index not in pair.removed:
            same = filecmp.cmp(pair.path("az1", index), pair.path("az2", index), shallow=False)
            assert same, f"the twins of disk {index} differ"
    filecmp.clear_cache()


def last_resync(status: WorkerStatus | None) -> ResyncReport:
    """The report of a resync that there must have been."""
    assert status is not None
    assert status.resync is not None
    return status.resync


SIZE = 64 * MIB
