"""The allocator of a worker."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from twinsite.core.limits import MIB

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")

ARENAS = """
import ctypes, threading
from twinsite.worker.lean_memory import keep_memory_at_hand
if {lean}:
    assert keep_memory_at_hand()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
done = threading.Barrier(5)
def allocate():
    libc.malloc(100_000)
    done.wait()
for _ in range(4):
    threading.Thread(target=allocate).start()
done.wait()
libc.malloc_stats()
"""

BUFFERS = """
import resource
from twinsite.worker.lean_memory import give_memory_back, keep_memory_at_hand
keep_memory_at_hand()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
def use(buffers):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = [b"x" * {buffer_bytes} for _ in range(buffers)]
    del taken
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
at_rest = resident()
faults = [use({count}) for _ in range(3)]
kept = resident() - at_rest
give_memory_back()
print(*faults, kept, resident() - at_rest)
"""


@pytest.mark.parametrize(("lean", "arenas"), [(True, 1), (False, 5)])
def test_threads_share_one_arena(lean: bool, arenas: int) -> None:
    statistics = _run(ARENAS.format(lean=lean))
    assert statistics.stderr.count("Arena ") == arenas


def test_buffers_are_taken_from_memory_that_is_there_until_it_is_given_back() -> None:
    printed = _run(BUFFERS.format(buffer_bytes=MIB, count=12)).stdout
    first, second, third, kept_bytes, left_bytes = map(int, printed.split())
    assert first > 2_000
    assert second + third < first // 10
    assert kept_bytes > 10 * MIB
    assert left_bytes < 2 * MIB


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
