"""What the tests of backing stores share: devices, patterns and checks."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twinsite.stores.base import Extent, Store

KIB = 1024
MIB = 1024 * KIB
SIZE_BYTES = 4 * MIB
COMMAND_SECONDS_MAX = 90
_PATTERN = bytes((index * 7 + index // 251) % 255 + 1 for index in range(10_007))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and loop devices need root")


def run(*command: str) -> str:
    """Run a system command and return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX).stdout


@contextlib.contextmanager
def loop_device(backing: Path) -> Iterator[str]:
    """Give the path of a loop device on `backing`, or skip the test when the machine has none to give."""
    try:
        device = run("losetup", "--find", "--show", str(backing)).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device: {error}")
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def read(store: Store, offset: int, length: int) -> bytes:
    """Return a range of the store."""
    buffer = bytearray(length)
    store.read_into(buffer, offset)
    return bytes(buffer)


def pattern(length: int, seed: int = 1) -> bytes:
    """Return bytes without zeros that differ from block to block."""
    return (_PATTERN * (length // len(_PATTERN) + 2))[seed : seed + length]


def noise(length: int, seed: int = 1) -> bytes:
    """Return bytes that cannot be made smaller, so that as many travel as were written."""
    return random.Random(seed).randbytes(length)


def kernel_reads_nowait(path: str) -> bool:
    """Tell whether the file system under `path` knows RWF_NOWAIT."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 4096, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def check_extents(store: Store, offset: int, length: int) -> list[Extent]:
    """Check that extents are in order, merged and complete, and that holes read as zeros."""
    extents = list(store.extents(offset, length))
    position = offset
    for extent, following in zip(extents, [*extents[1:], None], strict=True):
        assert extent.offset == position
        assert extent.length > 0
        assert following is None or following.is_hole != extent.is_hole, "neighbours of one kind are merged"
        if extent.is_hole:
            assert read(store, extent.offset, extent.length) == bytes(extent.length)
        position += extent.length
    assert position == offset + length
    return extents


def run_threads(jobs: list[Callable[[], None]]) -> None:
    """Run all jobs at once and re-raise the first failure."""
    failures: list[BaseException] = []

    def guard(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guard, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(COMMAND_SECONDS_MAX)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]
