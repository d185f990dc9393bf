"""Proofs about disks, made without Twinsite: they read the files that lie under it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.demo.images import TOOL_SECONDS_MAX, find_tool
from twinsite.demo.writer import RECORD_BYTES, record_number, record_offset

HASH_PIECE_BYTES = 4 * MIB
_E2FSCK_CLEAN = 0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a whole file, holes read as zeros."""
    digest = hashlib.sha256()
    buffer = bytearray(HASH_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def sha256_of_all(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file; several are read at once, since hashing leaves Python's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(sha256_of, paths))


def differing_blocks(left: Path, right: Path) -> int:
    """Return how many 64 KiB blocks of two files of one size differ."""
    count = 0
    with left.open("rb", buffering=0) as left_file, right.open("rb", buffering=0) as right_file:
        while left_piece := left_file.read(HASH_PIECE_BYTES):
            right_piece = right_file.read(HASH_PIECE_BYTES)
            if left_piece == right_piece:
                continue
            starts = range(0, len(left_piece), BLOCK_BYTES)
            count += sum(left_piece[at : at + BLOCK_BYTES] != right_piece[at : at + BLOCK_BYTES] for at in starts)
    return count


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
