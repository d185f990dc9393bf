"""A worker's state files in memory: fast, and always durable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class MemoryLogFile:
    """An open log."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write(self, parts: Sequence[bytes | memoryview], offset: int) -> int:
        data = b"".join(parts)
        self._content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, size_bytes: int) -> None:
        del self._content[size_bytes:]

    def sync(self) -> None:
        """Nothing is ever lost."""

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        yield memoryview(bytes(self._content))

    def close(self) -> None:
        """Nothing is held."""


class MemoryFiles:
    """The `Files` of one directory tree."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytearray] = {}

    def make_directory(self, path: Path) -> None:
        """Every directory is there."""

    def read(self, path: Path) -> bytes:
        if path not in self.contents:
            raise FileNotFoundError(path)
        return bytes(self.contents[path])

    def replace(self, path: Path, content: bytes) -> None:
        self.contents[path] = bytearray(content)

    def remove(self, path: Path) -> None:
        self.contents.pop(path, None)

    def rename(self, path: Path, new_path: Path) -> None:
        self.contents[new_path] = self.contents.pop(path)

    def list(self, directory: Path) -> list[Path]:
        return sorted(path for path in self.contents if path.parent == directory)

    def create_log(self, path: Path) -> MemoryLogFile:
        self.contents[path] = bytearray()
        return MemoryLogFile(self.contents[path])

    def open_log(self, path: Path) -> MemoryLogFile:
        if path not in self.contents:
            raise FileNotFoundError(path)
        return MemoryLogFile(self.contents[path])
