"""The demo's real data, and the proofs about it."""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.nbd_volume import serve_volume
from twinsite.core.limits import BLOCK_BYTES, MIB
from twinsite.demo import checks, images
from twinsite.demo.images import build_ext4, build_filesystem, build_iso, build_library_tar, copy_to_disk, find_tool
from twinsite.nbd_client import NbdClient

FILES_MIN = 300


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.mark.skipif(find_tool("mke2fs") is None or find_tool("e2fsck") is None, reason="e2fsprogs is not installed")
def test_the_ext4_image_is_clean_and_has_the_files(directory: Path) -> None:
    mke2fs = find_tool("mke2fs")
    assert mke2fs is not None
    image = build_ext4(mke2fs, directory)
    assert image.file_count >= FILES_MIN
    assert image.path.stat().st_size == images.FILESYSTEM_BYTES
    assert image.data_bytes < images.FILESYSTEM_BYTES // 4
    assert checks.filesystem_is_clean(image.path) is True
    listing = subprocess.run(
        [find_tool("debugfs") or "debugfs", "-R", "cat /twinsite/errors.py", str(image.path)],
        capture_output=True,
        check=True,
        timeout=images.TOOL_SECONDS_MAX,
    )
    assert b"class TwinsiteError(Exception)" in listing.stdout
    with image.path.open("r+b") as file:
        file.seek(1024 + 12)
        file.write(b"\xff" * 4)
    assert checks.filesystem_is_clean(image.path) is False


def test_the_iso_image_has_the_files(directory: Path) -> None:
    image = build_iso(directory)
    assert image.file_count >= FILES_MIN
    assert checks.count_iso_files(image.path) == image.file_count


def test_without_mke2fs_there_is_an_iso(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "find_tool", lambda name: None)
    assert build_filesystem(directory).kind == "an ISO 9660 filesystem"


def test_the_tar_is_read_from_a_disk_larger_than_itself(directory: Path) -> None:
    image = build_library_tar(directory)
    assert image.file_count >= FILES_MIN
    with image.path.open("r+b") as file:
        file.truncate(image.path.stat().st_size + 10 * MIB)
    assert checks.count_tar_files(image.path) == image.file_count
    with image.path.open("r+b") as file:
        file.truncate(MIB)
    with pytest.raises(tarfile.TarError):
        checks.count_tar_files(image.path)


def test_an_image_is_copied_with_its_holes(directory: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    data = os.urandom(3 * MIB + 512)
    with image.open("wb") as file:
        file.truncate(40 * MIB)
        file.seek(20 * MIB)
        file.write(data)
    with serve_volume(directory, 64 * MIB, name="copy") as volume:
        with NbdClient(volume.uri) as disk:
            copied_bytes = copy_to_disk(image, disk)
        assert len(data) <= copied_bytes < len(data) + MIB
        assert volume.file.read_bytes() == image.read_bytes() + bytes(24 * MIB)
        assert volume.file.stat().st_blocks * 512 < 8 * MIB


def write_at(path: Path, offset: int, data: bytes, size_bytes: int = 16 * MIB) -> None:
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(size_bytes)
        file.seek(offset)
        file.write(data)


def test_disks_that_read_the_same_have_the_same_hash_whatever_their_holes(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for path in (left, right):
        write_at(path, 5 * BLOCK_BYTES + 7, b"content")
    write_at(right, 9 * BLOCK_BYTES, bytes(3 * BLOCK_BYTES))
    assert right.stat().st_blocks > left.stat().st_blocks
    assert checks.content_sha256(left) == checks.content_sha256(right)
    assert checks.differing_blocks(left, right) == 0


def test_one_different_byte_anywhere_is_found(tmp_path: Path) -> None:
    seed = 11
    print(f"seed {seed}")
    chooser = random.Random(seed)
    left, right = tmp_path / "left", tmp_path / "right"
    write_at(left, 0, chooser.randbytes(MIB))
    write_at(right, 0, left.read_bytes())
    equal = checks.content_sha256(left)
    assert checks.content_sha256(right) == equal
    for _ in range(20):
        offset = chooser.randrange(16 * MIB)
        with right.open("r+b") as file:
            file.seek(offset)
            before = file.read(1)
            file.seek(offset)
            file.write(bytes([before[0] ^ 1]))
            file.flush()
            assert checks.content_sha256(right) != equal
            assert checks.differing_blocks(left, right) == checks.differing_blocks(right, left) == 1
            file.seek(offset)
            file.write(before)
    assert checks.content_sha256(right) == equal


def test_content_that_has_moved_to_another_block_is_found(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    write_at(left, 2 * BLOCK_BYTES, b"x" * BLOCK_BYTES)
    write_at(right, 3 * BLOCK_BYTES, b"x" * BLOCK_BYTES)
    assert checks.content_sha256(left) != checks.content_sha256(right)
    assert checks.differing_blocks(left, right) == 2
