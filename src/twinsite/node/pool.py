"""Where a site's volumes get their bytes from. Today a directory of sparse files."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Protocol

from twinsite.errors import StorageFault
from twinsite.messages import PoolReport, StorePlace
from twinsite.stores.opening import create_file_store, delete_file_store

_SUFFIX = ".raw"


class Pool(Protocol):
    """A source of volumes. Every call may block; failures raise `StorageFault`."""

    def place(self, volume_id: str) -> StorePlace:
        """Return where a volume's bytes lie."""

    def create(self, volume_id: str, size_bytes: int) -> None:
        """Make sure that the volume is there with this size, durably. Idempotent."""

    def delete(self, volume_id: str) -> None:
        """Make sure that the volume is gone. Idempotent; EBUSY while a process has it open."""

    def size_bytes(self, volume_id: str) -> int | None:
        """Return the volume's size, or None when it is not there."""

    def volume_ids(self) -> list[str]:
        """Return the ids of the volumes that are there."""

    def report(self) -> PoolReport:
        """Return the pool's size and free space in bytes."""


class DirectoryPool:
    """A pool of sparse files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def place(self, volume_id: str) -> StorePlace:
        """Return the volume's file."""
        return StorePlace("file", str(self.directory / f"{volume_id}{_SUFFIX}"))

    def create(self, volume_id: str, size_bytes: int) -> None:
        """Make sure that the volume's file is there with this size, durably. Idempotent."""
        create_file_store(self.place(volume_id).path, size_bytes)

    def delete(self, volume_id: str) -> None:
        """Make sure that the volume's file is gone. Idempotent; EBUSY while a process has it open."""
        delete_file_store(self.place(volume_id).path)

    def size_bytes(self, volume_id: str) -> int | None:
        """Return the size of the volume's file, or None when there is none."""
        path = self.place(volume_id).path
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault("stat", path, error) from error

    def volume_ids(self) -> list[str]:
        """Return the ids of the volumes whose files are there; files of other names are not the pool's."""
        try:
            names = sorted(os.listdir(self.directory))
        except OSError as error:
            raise StorageFault("list", str(self.directory), error) from error
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and _is_id(name)]

    def report(self) -> PoolReport:
        """Return the size and the free space of the directory's file system."""
        try:
            status = os.statvfs(self.directory)
        except OSError as error:
            raise StorageFault("stat", str(self.directory), error) from error
        return PoolReport(
            total_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,  # Without root's reserve, which workers may not have.
        )


def _is_id(name: str) -> bool:
    try:
        uuid.UUID(name.removesuffix(_SUFFIX))
    except ValueError:
        return False
    return True
