"""The state files of a simulated machine: what was not synced may be lost, wholly or in part."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twinsite.core.limits import SECTOR_BYTES
from twinsite.durable_file import LogFile

Operation = Callable[[str], None]


class _Inode:
    """The content of a file: as it is read, and as a crash may leave it."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytes(content)

    def crash(self, rng: random.Random) -> None:
        """Keep what was synced, and of each later change any part, sector by sector."""
        new, old = bytes(self.content), self.durable
        if new != old:
            length = rng.randint(min(len(new), len(old)), max(len(new), len(old)))
            keep_rate = rng.choice([0.0, 0.5, 1.0])
            kept = bytearray(length)  # What was allocated and never written reads as zeros.
            for start in range(0, length, SECTOR_BYTES):
                end = min(start + SECTOR_BYTES, length)
                source = new if rng.random() < keep_rate else old
                part = source[start:end]
                kept[start : start + len(part)] = part
            self.durable = bytes(kept)
        self.content = bytearray(self.durable)


class SimFiles:
    """`Files` of a simulated machine."""

    def __init__(self, rng: random.Random, operation: Operation = lambda what: None) -> None:
        """`operation` is told before each step, and may raise."""
        self.is_full = False
        self._random = rng
        self._operation = operation
        self._files: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._directories: set[Path] = {Path("/")}

    def make_directory(self, path: Path) -> None:
        """Let there be a directory."""
        self._operation(f"mkdir {path}")
        self._directories.update([path, *path.parents])

    def read(self, path: Path) -> bytes:
        """Return the content. Raises `FileNotFoundError`."""
        self._operation(f"read {path}")
        return bytes(self._inode(path).content)

    def peek(self, path: Path) -> bytes:
        """Return the content for who looks from outside the world. Raises `FileNotFoundError`."""
        return bytes(self._inode(path).content)

    def replace(self, path: Path, content: bytes) -> None:
        """Replace a file as a whole; a crash in the middle leaves the old one or the new one. Raises `OSError`."""
        self._operation(f"replace {path}")
        self._check_parent(path)
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self._files[path] = _Inode(content)
        self._operation(f"sync the new name of {path}")
        self._sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        """Let there be no such file, after a crash neither."""
        self._operation(f"remove {path}")
        if self._files.pop(path, None) is not None:
            self._operation(f"sync the removal of {path}")
            self._sync_directory(path.parent)

    def rename(self, path: Path, new_path: Path) -> None:
        """Give a file another name; a crash in the middle leaves the old name or the new one. Raises `OSError`."""
        self._operation(f"rename {path}")
        self._files[new_path] = self._inode(path)
        del self._files[path]
        self._operation(f"sync the new name of {path}")
        self._sync_directory(new_path.parent)

    def list(self, directory: Path) -> list[Path]:
        """Return the files of a directory."""
        self._operation(f"list {directory}")
        return sorted(path for path in self._files if path.parent == directory)

    def create_log(self, path: Path) -> LogFile:
        """Open an empty log. Raises `OSError`."""
        self._operation(f"create {path}")
        self._check_parent(path)
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        inode = self._files.get(path)
        if inode is None:
            inode = self._files[path] = _Inode()
        inode.content.clear()
        self._operation(f"sync the name of {path}")
        self._sync_directory(path.parent)
        return _SimLogFile(self, path, inode)

    def open_log(self, path: Path) -> LogFile:
        """Open a log as it is. Raises `FileNotFoundError`."""
        self._operation(f"open {path}")
        return _SimLogFile(self, path, self._inode(path))

    def crash(self) -> None:
        """The machine has crashed: names and contents that were not synced may be lost."""
        names = sorted({*self._files, *self._durable_names})
        survivors = {}
        for path in names:
            new, old = self._files.get(path), self._durable_names.get(path)
            inode = new if new is old or self._random.random() < 0.5 else old
            if inode is not None:
                survivors[path] = inode
        for inode in survivors.values():
            inode.crash(self._random)
        self._files = survivors
        self._durable_names = dict(survivors)

    def _inode(self, path: Path) -> _Inode:
        inode = self._files.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return inode

    def _check_parent(self, path: Path) -> None:
        if path.parent not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    def _sync_directory(self, directory: Path) -> None:
        for path in [path for path in self._durable_names if path.parent == directory and path not in self._files]:
            del self._durable_names[path]
        self._durable_names.update({path: inode for path, inode in self._files.items() if path.parent == directory})


class _SimLogFile:
    """A `LogFile` of a simulated machine."""

    def __init__(self, files: SimFiles, path: Path, inode: _Inode) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._is_open = True

    def write(self, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """Write all parts. Raises `OSError`."""
        self._enter("write to")
        data = b"".join(parts)
        content = self._inode.content
        if self._files.is_full and offset + len(data) > len(content):
            raise OSError(errno.ENOSPC, "No space left on device", str(self._path))
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, size_bytes: int) -> None:
        """Cut the end off. Raises `OSError`."""
        self._enter("truncate")
        del self._inode.content[size_bytes:]

    def sync(self) -> None:
        """Make the content durable. Raises `OSError`."""
        self._enter("sync")
        self._inode.durable = bytes(self._inode.content)

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        """Show the content. Raises `OSError`."""
        self._enter("map")
        with memoryview(bytes(self._inode.content)) as view:
            yield view

    def close(self) -> None:
        """Give the file up. Idempotent."""
        self._is_open = False

    def _enter(self, what: str) -> None:
        if not self._is_open:
            raise OSError(errno.EBADF, "Bad file descriptor", str(self._path))
        self._files._operation(f"{what} {self._path}")
