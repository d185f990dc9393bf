"""Proofs about disks, made without Twinsite: they read the files that lie under it."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from twinsite.core.limits import BLOCK_BYTES
from twinsite.demo.images import TOOL_SECONDS_MAX, data_ranges, find_tool
from twinsite.demo.writer import RECORD_BYTES, record_number, record_offset

_E2FSCK_CLEAN = 0
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_OFFSET = struct.Struct("!Q")


def content_sha256(path: Path) -> str:
    """Return a SHA-256 that stands for the content of a disk's file.

    It is taken over the offset and the content of every 64 KiB block that is not all zeros, so that two files have the
    same one exactly when they read the same, and gigabytes of holes cost nothing. Both files must be of one size.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for block in data_blocks(file.fileno()):
            content = os.pread(file.fileno(), BLOCK_BYTES, block * BLOCK_BYTES)
            if content != _ZERO_BLOCK:
                digest.update(_OFFSET.pack(block * BLOCK_BYTES))
                digest.update(content)
    return digest.hexdigest()


def differing_blocks(left: Path, right: Path) -> int:
    """Return how many 64 KiB blocks of two files of one size differ."""
    with left.open("rb", buffering=0) as left_file, right.open("rb", buffering=0) as right_file:
        files = (left_file.fileno(), right_file.fileno())
        blocks = {block for fd in files for block in data_blocks(fd)}
        return sum(
            os.pread(files[0], BLOCK_BYTES, block * BLOCK_BYTES) != os.pread(files[1], BLOCK_BYTES, block * BLOCK_BYTES)
            for block in blocks
        )


def data_blocks(fd: int) -> Iterator[int]:
    """Yield the number of each 64 KiB block of a file that is not a hole, in order."""
    following = 0
    for start, end in data_ranges(fd, os.fstat(fd).st_size):
        first = max(start // BLOCK_BYTES, following)
        following = -(-end // BLOCK_BYTES)
        yield from range(first, following)


def filesystem_is_clean(path: Path) -> bool | None:
    """Return whether e2fsck finds nothing to repair in an image; None without e2fsck."""
    e2fsck = find_tool("e2fsck")
    if e2fsck is None:
        return None
    command = [e2fsck, "-f", "-n", str(path)]
    result = subprocess.run(command, capture_output=True, timeout=TOOL_SECONDS_MAX, check=False)
    return result.returncode == _E2FSCK_CLEAN


def count_iso_files(path: Path) -> int:
    """Return the number of files in an ISO 9660 image, by its Rock Ridge names."""
    import pycdlib  # noqa: PLC0415 (only machines without mke2fs need it)

    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    try:
        return sum(len(files) for _, _, files in iso.walk(rr_path="/"))
    finally:
        iso.close()


def count_tar_files(path: Path) -> int:
    """Read a whole tar from the beginning of a file and return the number of its members."""
    count = 0
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None or len(content.read()) != member.size:
                raise tarfile.ReadError(f"{member.name} is damaged")
            count += 1
    return count


def read_record(path: Path, number: int) -> bool:
    """Return whether the log record `number` is on a disk, intact."""
    with path.open("rb", buffering=0) as file:
        return record_number(os.pread(file.fileno(), RECORD_BYTES, record_offset(number))) == number


def count_records(path: Path) -> int:
    """Return the length of the unbroken run of intact records at the beginning of a disk."""
    number = 1
    with path.open("rb") as file:
        while record_number(file.read(RECORD_BYTES)) == number:
            number += 1
    return number - 1
