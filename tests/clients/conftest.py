"""What the tests with real clients share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nbd_volume import ServedVolume, serve_volume
from tests.support.running_installation import installation

__all__ = ["installation"]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def volume(directory: Path) -> Iterator[ServedVolume]:
    """A volume of 64 MiB, empty, writable."""
    with serve_volume(directory) as served:
        yield served


@pytest.fixture
def read_only_volume(directory: Path) -> Iterator[ServedVolume]:
    """A volume of 64 MiB that hosts may not write to."""
    with serve_volume(directory, read_only=True, name="frozen") as served:
        yield served
