"""A worker in this process, and a secondary that is played by the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.leader import Leader
from tests.support.stream import RawSecondary


@pytest.fixture(name="directory")
def fixture_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(name="leader")
async def fixture_leader(directory: Path) -> AsyncIterator[Leader]:
    leader = Leader(directory)
    leader.start()
    await leader.put(leader.spec())
    yield leader
    await leader.close()


@pytest.fixture(name="secondary")
async def fixture_secondary() -> AsyncIterator[RawSecondary]:
    async with RawSecondary() as secondary:
        yield secondary
