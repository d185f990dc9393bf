"""A worker's state files on a machine that loses what was not synced, and on a disk that fails where a test says so."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.stream import WAIT_SECONDS


class CrashFiles:
    """The `Files` of one directory tree.

    `failing` names operations that raise: read, replace, rename, open, write, sync. While `may_sync` is clear, syncs
    and replacements wait.
    """

    def __init__(self, durable: dict[Path, bytes] | None = None) -> None:
        self.durable = dict(durable or {})
        self.contents = {path: bytearray(content) for path, content in self.durable.items()}
        self.unsynced: dict[Path, list[tuple[int, bytes]]] = {}
        self.failing: set[str] = set()
        self.counts: dict[str, int] = {}
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_syncing = threading.Event()
        self.lock = threading.Lock()

    def note(self, operation: str) -> None:
        """Count an operation; wait, or fail, as the test wants."""
        self.counts[operation] = self.counts.get(operation, 0) + 1
        if operation in ("sync", "replace"):
            self.is_syncing.set()
            assert self.may_sync.wait(WAIT_SECONDS), "a sync was held for too long"
        if operation in self.failing:
            raise OSError(errno.ENOSPC, "as the test wants")

    def after_crash(self, rng: random.Random) -> CrashFiles:
        """Return what the machine finds when it starts again: of a write that was not synced all, some, or nothing."""
        with self.lock:
            survived = dict(self.durable)
            for path, writes in self.unsynced.items():
                content = bytearray(survived[path])
                for offset, data in writes:
                    kept = data[: rng.choice([0, len(data), rng.randint(0, len(data))])]
                    content[offset : offset + len(kept)] = kept
                survived[path] = bytes(content)
            return CrashFiles(survived)

    def make_directory(self, path: Path) -> None:
        """Every directory is there."""

    def read(self, path: Path) -> bytes:
        self.note("read")
        if path not in self.contents:
            raise FileNotFoundError(path)
        return bytes(self.contents[path])

    def replace(self, path: Path, content: bytes) -> None:
        self.note("replace")
        with self.lock:
            self.contents[path] = bytearray(content)
            self.durable[path] = bytes(content)
            self.unsynced.pop(path, None)

    def remove(self, path: Path) -> None:
        with self.lock:
            for files in (self.contents, self.durable, self.unsynced):
                files.pop(path, None)

    def rename(self, path: Path, new_path: Path) -> None:
        self.note("rename")
        with self.lock:
            self.contents[new_path] = self.contents.pop(path)
            self.durable[new_path] = self.durable.pop(path)
            self.unsynced.pop(new_path, None)
            if path in self.unsynced:
                self.unsynced[new_path] = self.unsynced.pop(path)

    def list(self, directory: Path) -> list[Path]:
        return sorted(path for path in self.contents if path.parent == directory)

    def create_log(self, path: Path) -> CrashLogFile:
        self.replace(path, b"")
        return self.open_log(path)

    def open_log(self, path: Path) -> CrashLogFile:
        self.note("open")
        if path not in self.contents:
            raise FileNotFoundError(path)
        return CrashLogFile(self, path)


class CrashLogFile:
    """An open log of such files."""

    def __init__(self, files: CrashFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._is_open = True

    def write(self, parts: Sequence[bytes | memoryview], offset: int) -> int:
        assert self._is_open
        self._files.note("write")
        data = b"".join(parts)
        with self._files.lock:
            self._files.contents[self._path][offset : offset + len(data)] = data
            self._files.unsynced.setdefault(self._path, []).append((offset, data))
        return len(data)

    def truncate(self, size_bytes: int) -> None:
        assert self._is_open
        with self._files.lock:
            del self._files.contents[self._path][size_bytes:]

    def sync(self) -> None:
        assert self._is_open
        self._files.note("sync")
        with self._files.lock:
            self._files.durable[self._path] = bytes(self._files.contents[self._path])
            self._files.unsynced.pop(self._path, None)

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        yield memoryview(bytes(self._files.contents[self._path]))

    def close(self) -> None:
        self._is_open = False
