"""The place where a run keeps its volumes and sockets, and files of known content in it."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError
from twinsite.core.limits import GIB, MIB

COPIES_MAX = 4
"""Most copies of the full-sync volume that a case holds at one time, with one to spare."""
SPARE_BYTES = 1 * GIB
_CHUNK_BYTES = 4 * MIB
_SYSTEM = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/python3")
"""Where programs and libraries lie; what there is not is left out."""


class Workspace:
    """A temporary directory with numbered subdirectories; removed at the end."""

    def __init__(self, parent: Path, size_bytes: int) -> None:
        """Prepare for volumes of `size_bytes`. Raises `BenchError` when there is no room for them."""
        try:
            free_bytes = shutil.disk_usage(parent).free
        except OSError as error:
            raise BenchError(f"{parent} cannot be used: {error.strerror}; choose another with --directory") from error
        needed_bytes = COPIES_MAX * size_bytes + SPARE_BYTES
        if free_bytes < needed_bytes:
            raise BenchError(
                f"{parent} has {free_bytes // MIB} MiB free and the run needs up to {needed_bytes // MIB} MiB; "
                "choose another place with --directory or a smaller --size"
            )
        self._parent = parent
        self._count = 0
        self.path = parent

    def new_directory(self, stack: ExitStack) -> Path:
        """Return a new empty directory that is removed with the stack. Its name is short: Unix sockets lie in it."""
        self._count += 1
        path = self.path / str(self._count)
        path.mkdir()
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def __enter__(self) -> Workspace:
        self.path = Path(tempfile.mkdtemp(prefix="ts-bench-", dir=self._parent))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def write_random_file(path: Path, size_bytes: int, seed: int) -> None:
    """Write a file that no program can shorten: no block of it is zero or like another."""
    generator = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size_bytes, _CHUNK_BYTES):
            file.write(generator.randbytes(min(_CHUNK_BYTES, size_bytes - start)))


def write_system_files(path: Path, size_bytes: int) -> None:
    """Write a file of what the disks of machines hold: the programs and libraries of this one, over and over.

    Raises `BenchError` when there are none.
    """
    sources = [source for place in _SYSTEM for source in sorted(Path(place).rglob("*")) if _is_plain(source)]
    if not sources:
        raise BenchError(f"there are no files to read in {', '.join(_SYSTEM)}")
    left = size_bytes
    with path.open("wb") as file:
        while left:
            for source in sources:
                left -= file.write(source.read_bytes()[:left])


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0 and os.access(path, os.R_OK)


def write_zero_file(path: Path, size_bytes: int) -> None:
    """Write a file whose zeros take space, as an old disk's do."""
    chunk = bytes(_CHUNK_BYTES)
    with path.open("wb") as file:
        for start in range(0, size_bytes, _CHUNK_BYTES):
            file.write(chunk[: size_bytes - start])


def make_sparse_file(path: Path, size_bytes: int) -> None:
    """Make a file that is one hole."""
    with path.open("wb") as file:
        file.truncate(size_bytes)


def write_patchy_file(path: Path, size_bytes: int, seed: int) -> None:
    """Write a sparse file of which a tenth, in runs of 1 MiB at random places, is random data."""
    generator = random.Random(seed)
    run_count = size_bytes // MIB
    make_sparse_file(path, size_bytes)
    with path.open("r+b") as file:
        for number in sorted(generator.sample(range(run_count), max(1, run_count // 10))):
            file.seek(number * MIB)
            file.write(generator.randbytes(MIB))


def copy_data(source: Path, target: Path) -> None:
    """Copy a file's bytes, so that both take their own space whatever the file system can share."""
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK_BYTES)


def settle(source: Path, target: Path) -> None:
    """Bring both files' changes to the disk and the source into the page cache, so that each copy starts alike."""
    for path in (source, target):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    with source.open("rb") as file:
        while file.read(_CHUNK_BYTES):
            pass


def chill(path: Path) -> None:
    """Bring a file's changes to the disk and its pages out of the cache.

    A file that was filled by long writes lies in the cache in large folios, and in those ext4 looks at every 4 KiB of a
    folio for each 4 KiB written: ten times the cost of the write itself, whoever serves the file. From a cold cache a
    small write makes a small folio.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def load(path: Path) -> None:
    """Bring a file into the page cache in small folios, which is what the kernel makes for random access."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while file.read(_CHUNK_BYTES):
            pass


def check_equal(first: Path, second: Path) -> None:
    """Raise `BenchError` unless the files hold the same bytes: a copy that is wrong has no speed."""
    with first.open("rb") as one, second.open("rb") as other:
        size_bytes = os.fstat(one.fileno()).st_size
        if size_bytes != os.fstat(other.fileno()).st_size:
            raise BenchError(f"{first} and {second} differ in size")
        with (
            mmap.mmap(one.fileno(), size_bytes, prot=mmap.PROT_READ) as left,
            mmap.mmap(other.fileno(), size_bytes, prot=mmap.PROT_READ) as right,
        ):
            for start in range(0, size_bytes, _CHUNK_BYTES):
                if left[start : start + _CHUNK_BYTES] != right[start : start + _CHUNK_BYTES]:
                    raise BenchError(f"{first} and {second} differ within {_CHUNK_BYTES} bytes from {start}")
