"""The data directory: can it be written, is its file system good for disks, and do flushes reach something."""

from __future__ import annotations

import errno
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsite.doctor.findings import Finding, error, ok, warning
from twinsite.errors import ConfigurationError
from twinsite.node.settings import NodeSettings, check_socket_paths
from twinsite.stores.linux import punch_hole

FREE_PART_MIN = 0.1
FREE_BYTES_MIN = 1024**3
TRIAL_BYTES = 1024**2
FLUSHES = 16
FLUSH_SECONDS_DOUBTED = 30e-6
"""A flush that is faster than this reached no disk: the fastest drives with a protected cache take about as long."""
FLUSH_SECONDS_SLOW = 0.05
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OF_OTHERS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.glusterfs", "virtiofs"})
UNSAFE_OPTIONS = frozenset({"nobarrier", "barrier=0"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    place: str
    kind: str
    options: frozenset[str]


def check_storage(data: Path, sites: Sequence[str]) -> Iterator[Finding]:
    """Look at a data directory, or where it is to be made. Files that are made for a trial are removed again."""
    for site in sites:
        yield _socket_paths(data, site)
    directory = _existing(data)
    if directory != data:
        yield ok("data directory", f"{data} is not there yet; {directory} is looked at, where it will be made")
    if not os.access(directory, os.W_OK | os.X_OK):
        mend = f"give it to the user that runs twinsite: chown twinsite {directory}"
        yield error("data directory", f"{directory} cannot be written by this user", mend)
        return
    mount = mount_of(directory, Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
    if mount is not None:
        yield judge_mount(mount)
    yield judge_space(directory, *shutil.disk_usage(directory)[::2])
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            yield _holes(file.fileno(), directory)
            yield _quick_reads(file.fileno(), directory)
            yield judge_flushes(_flush_seconds(file.fileno()), directory)
    except OSError as cause:
        yield error(
            "data directory", f"{directory} cannot be written: {cause.strerror}", "mend or free its file system"
        )


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_dir())


def _socket_paths(data: Path, site: str) -> Finding:
    try:
        check_socket_paths(NodeSettings(site, "http://", data, ""))
    except ConfigurationError as trouble:
        return error("socket paths", str(trouble), "choose a shorter --data")
    return ok("socket paths", f"those below {data / site} fit")


def mount_of(directory: Path, mounts: str) -> Mount | None:
    """Return the file system that a directory lies on, by the text of /proc/self/mounts."""
    best: Mount | None = None
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split()
        place = place.replace("\\040", " ")
        if directory.resolve().is_relative_to(place) and (best is None or len(place) >= len(best.place)):
            best = Mount(place, kind, frozenset(options.split(",")))
    return best


def judge_mount(mount: Mount) -> Finding:
    """Say whether a file system is good for disks."""
    text = f"{mount.kind} at {mount.place}"
    if mount.kind in IN_MEMORY:
        return error("file system", f"{text} is in memory", "put the data on a disk: a restart loses everything here")
    if "ro" in mount.options:
        return error(
            "file system", f"{text} is read-only", "mount it for writing; see the system's log for why it is not"
        )
    if mount.options & UNSAFE_OPTIONS:
        return error(
            "file system", f"{text} is mounted without barriers", "mount it with barriers: flushes are not kept"
        )
    if mount.kind in OF_OTHERS:
        return warning(
            "file system", f"{text} is another machine's", "use a local disk: locks and flushes depend on it"
        )
    if mount.kind == "overlay":
        return warning("file system", f"{text} is a container's own", "use a volume that outlives the container")
    return ok("file system", text)


def judge_space(directory: Path, total: int, free: int) -> Finding:
    """Judge the free space, in bytes."""
    part = free / total if total else 0.0
    text = f"{free / 1024**3:.1f} GiB of {total / 1024**3:.1f} GiB free at {directory}"
    mend = "free space or enlarge the file system: sparse volumes fail their hosts' writes when it is full"
    if free < FREE_BYTES_MIN:
        return error("free space", text, mend)
    return ok("free space", text) if part >= FREE_PART_MIN else warning("free space", text, mend)


def _holes(fd: int, directory: Path) -> Finding:
    os.pwrite(fd, b"\xff" * TRIAL_BYTES, 0)
    os.fsync(fd)
    before = os.fstat(fd).st_blocks
    try:
        punch_hole(fd, 0, TRIAL_BYTES)
    except OSError as cause:
        text = f"{directory}: {os.strerror(cause.errno or errno.EIO)}"
        return warning("holes", text, "use ext4, xfs or btrfs: discarded space is not given back here")
    if any(os.pread(fd, TRIAL_BYTES, 0)):
        return error(
            "holes", f"{directory}: a hole does not read as zeros", "use another file system: ext4, xfs or btrfs"
        )
    if before and os.fstat(fd).st_blocks >= before:
        return warning("holes", f"{directory}: a hole gives no space back", "use ext4, xfs or btrfs")
    return ok("holes", f"{directory}: holes read as zeros and give their space back")


def _quick_reads(fd: int, directory: Path) -> Finding:
    try:
        os.preadv(fd, [bytearray(4096)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    except OSError:
        return warning("reads", f"{directory}: no RWF_NOWAIT", "use ext4, xfs or btrfs: every read takes a thread here")
    return ok("reads", f"{directory}: cached data is read without a thread")


def _flush_seconds(fd: int) -> float:
    """Return how long a flush of a small write takes, the median of some."""
    times = []
    for number in range(FLUSHES):
        os.pwrite(fd, os.urandom(4096), number * 4096)
        began_at = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - began_at)
    return statistics.median(times)


def judge_flushes(seconds: float, directory: Path) -> Finding:
    """Judge how long a flush takes."""
    text = f"{directory}: a flush takes {seconds * 1000:.2f} ms"
    if seconds < FLUSH_SECONDS_DOUBTED:
        mend = "make sure that the disk (or the hypervisor's cache) keeps what it acknowledges when the power fails"
        return warning("flush time", f"{text}, less than a disk needs", mend)
    if seconds > FLUSH_SECONDS_SLOW:
        return warning(
            "flush time", f"{text}, which hosts will feel", "use a faster disk, or one with a protected cache"
        )
    return ok("flush time", text)
