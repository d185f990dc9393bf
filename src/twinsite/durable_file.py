"""Small files that are there completely or not at all, and logs that are durable up to where they were synced.

`Files` is what a worker keeps its state in: the system's files, or those of a simulated machine.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol


class LogFile(Protocol):
    """An open file that grows at its end and is read as a whole. Calls block; a failure raises `OSError`.

    What was not synced may be lost in a crash of the machine, wholly or in part.
    """

    def write(self, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """Write all parts, one after the other, from `offset` on; return how many bytes that was."""

    def truncate(self, size_bytes: int) -> None:
        """Cut everything from `size_bytes` on off."""

    def sync(self) -> None:
        """Make the content durable."""

    def view(self) -> AbstractContextManager[memoryview]:
        """Show the whole content without copying it; nothing may refer to it at the end."""

    def close(self) -> None:
        """Give the file up. Idempotent; does not sync."""


class Files(Protocol):
    """Where small files and logs are kept. Calls block; a failure raises `OSError`."""

    def make_directory(self, path: Path) -> None:
        """Let there be a directory, and those above it."""

    def read(self, path: Path) -> bytes:
        """Return the content; `FileNotFoundError` when there is no such file."""

    def replace(self, path: Path, content: bytes) -> None:
        """Put a file that only its owner can read in the place of `path`: a crash leaves the old one or the new one."""

    def remove(self, path: Path) -> None:
        """Let there be no such file, after a crash of the machine neither."""

    def rename(self, path: Path, new_path: Path) -> None:
        """Give a file another name in the same directory, durably."""

    def list(self, directory: Path) -> list[Path]:
        """Return the files of a directory, in the order of their names."""

    def create_log(self, path: Path) -> LogFile:
        """Open an empty log under a name that is durable; one that lies there is emptied."""

    def open_log(self, path: Path) -> LogFile:
        """Open a log as it is; `FileNotFoundError` when there is none."""


class SystemLogFile:
    """A `LogFile` of the operating system."""

    def __init__(self, fd: int) -> None:
        """Take over an open descriptor."""
        self._fd = fd

    def write(self, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """Write all parts from `offset` on; return how many bytes that was. Raises `OSError`."""
        data = b"".join(parts)
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):
            written += os.pwrite(self._fd, memoryview(data)[written:], offset + written)
        return written

    def truncate(self, size_bytes: int) -> None:
        """Cut everything from `size_bytes` on off. Raises `OSError`."""
        os.ftruncate(self._fd, size_bytes)

    def sync(self) -> None:
        """Make the content durable. Raises `OSError`."""
        os.fdatasync(self._fd)

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        """Map the file into memory. Raises `OSError`."""
        if os.fstat(self._fd).st_size == 0:
            yield memoryview(b"")  # The kernel maps nothing.
            return
        with mmap.mmap(self._fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            yield view

    def close(self) -> None:
        """Give the file up. Idempotent; does not sync."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class SystemFiles:
    """The `Files` of the operating system."""

    def make_directory(self, path: Path) -> None:
        """Let there be a directory, and those above it. Raises `OSError`."""
        path.mkdir(parents=True, exist_ok=True)

    def read(self, path: Path) -> bytes:
        """Return the content. Raises `OSError`."""
        return path.read_bytes()

    def replace(self, path: Path, content: bytes) -> None:
        """Replace a file as a whole. Raises `OSError`."""
        replace_file(path, content, 0o600)

    def remove(self, path: Path) -> None:
        """Let there be no such file, durably. Raises `OSError`."""
        with suppress(FileNotFoundError):
            path.unlink()
            sync_directory(path.parent)

    def rename(self, path: Path, new_path: Path) -> None:
        """Give a file another name. Raises `OSError`."""
        path.rename(new_path)
        sync_directory(new_path.parent)

    def list(self, directory: Path) -> list[Path]:
        """Return the files of a directory. Raises `OSError`."""
        return sorted(path for path in directory.iterdir() if path.is_file())

    def create_log(self, path: Path) -> LogFile:
        """Open an empty log under a durable name. Raises `OSError`."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            sync_directory(path.parent)
        except BaseException:
            os.close(fd)
            raise
        return SystemLogFile(fd)

    def open_log(self, path: Path) -> LogFile:
        """Open a log as it is. Raises `OSError`."""
        return SystemLogFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def replace_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write `content` under a temporary name, make it durable, and put it in the place of `path`. Raises `OSError`.

    A reader sees the old file or the new one. The mode is set before anything is written, so a secret is never
    readable by others.
    """
    unfinished = path.with_name(f"{path.name}.new")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path | str) -> None:
    """Make the entries of a directory durable; an empty path is the current one. Raises `OSError`."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
