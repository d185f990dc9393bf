"""The real data of the demo: a filesystem image with files in it, and the Python standard library as a tar."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twinsite.core.limits import MIB
from twinsite.nbd_client import NbdClient

FILESYSTEM_BYTES = 512 * MIB
"""Size of the ext4 filesystem; the rest of its disk stays free."""
TAR_BYTES_MAX = 256 * MIB
"""A standard library that is larger is packed up to here."""
ISO_FILES_MAX = 2000
"""Files in the ISO image, which is built in Python and so more slowly."""
TOOL_SECONDS_MAX = 60.0
COPY_PIECE_BYTES = MIB
PACKAGES = ("twinsite", "rich", "pydantic", "sqlalchemy", "fastapi", "httpx", "uvicorn")
"""Installed packages whose files go into the filesystem."""
_SKIPPED_DIRECTORIES = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image: its file, what it is in words, and how many files are in it."""

    path: Path
    kind: str
    file_count: int

    @property
    def data_bytes(self) -> int:
        """Bytes of the image that are not holes."""
        return self.path.stat().st_blocks * 512


def find_tool(name: str) -> str | None:
    """Return the path of a system tool, also where only an administrator's PATH points."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def build_filesystem(directory: Path) -> Image:
    """Build an ext4 image in `directory`, or an ISO 9660 image where mke2fs is missing. Needs no root.

    Raises `subprocess.SubprocessError` when mke2fs fails and `OSError` when there is no room.
    """
    mke2fs = find_tool("mke2fs")
    return build_ext4(mke2fs, directory) if mke2fs else build_iso(directory)


def build_ext4(mke2fs: str, directory: Path) -> Image:
    """Build an ext4 image with the files of `PACKAGES`; raises as `build_filesystem`."""
    tree, path = directory / "tree", directory / "disk.ext4"
    file_count = 0
    for source, name in _package_files():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        file_count += 1
    with path.open("wb") as file:
        file.truncate(FILESYSTEM_BYTES)
    command = [mke2fs, "-q", "-F", "-t", "ext4", "-L", "twinsite-demo", "-d", str(tree), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_SECONDS_MAX)
    shutil.rmtree(tree)
    return Image(path, "an ext4 filesystem", file_count)


def build_iso(directory: Path) -> Image:
    """Build an ISO 9660 image with Rock Ridge names and the files of `PACKAGES`."""
    import pycdlib  # noqa: PLC0415 (only machines without mke2fs need it)

    path = directory / "disk.iso"
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09", vol_ident="TWINSITE_DEMO")
    directories = {Path(): ""}
    file_count = 0
    for source, name in _package_files():
        if file_count == ISO_FILES_MAX:
            break
        parent = _iso_directory(iso, Path(name).parent, directories)
        iso.add_file(str(source), f"{parent}/F{file_count:07}.;1", rr_name=Path(name).name)
        file_count += 1
    iso.write(str(path))
    iso.close()
    return Image(path, "an ISO 9660 filesystem", file_count)


def build_library_tar(directory: Path) -> Image:
    """Pack the standard library of this Python as an uncompressed tar."""
    path = directory / "library.tar"
    file_count = packed_bytes = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for source, name in _tree_files(Path(sysconfig.get_path("stdlib")), "python"):
            packed_bytes += source.stat().st_size
            if packed_bytes > TAR_BYTES_MAX:
                break
            archive.add(source, arcname=name, recursive=False)
            file_count += 1
    return Image(path, "the Python standard library as a tar", file_count)


def copy_to_disk(image: Path, disk: NbdClient) -> int:
    """Copy an image to the beginning of a disk, leaving out its holes, and flush; return the bytes written.

    Raises `StorageFault` when the disk refuses a write.
    """
    copied_bytes = 0
    with image.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for start, end in data_ranges(file.fileno(), size_bytes):
            for offset in range(start, end, COPY_PIECE_BYTES):
                piece = os.pread(file.fileno(), min(COPY_PIECE_BYTES, end - offset), offset)
                disk.write(offset, piece)
                copied_bytes += len(piece)
    disk.flush()
    return copied_bytes


def data_ranges(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each range of a file that is not a hole, in bytes and in order."""
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            # ENXIO: nothing but a hole up to the end.
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _package_files() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for location in (found.submodule_search_locations or []) if found else []:
            yield from _tree_files(Path(location), package)


def _tree_files(root: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    """Yield each regular file below `root` with its name below `prefix`, in a stable order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _SKIPPED_DIRECTORIES)
        for file in sorted(files):
            path = Path(folder, file)
            if path.is_file() and not path.is_symlink():
                yield path, str(Path(prefix, path.relative_to(root)))


def _iso_directory(iso: object, folder: Path, directories: dict[Path, str]) -> str:
    """Return the ISO path of `folder`, making it and its parents where they are missing."""
    if folder not in directories:
        parent = _iso_directory(iso, folder.parent, directories)
        directories[folder] = f"{parent}/D{len(directories):07}"
        iso.add_directory(directories[folder], rr_name=folder.name)  # type: ignore[attr-defined]
    return directories[folder]
