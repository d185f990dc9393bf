"""The allocator of a worker."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ARENAS = """
import ctypes, threading
from twinsite.worker.lean_memory import use_one_arena
if {lean}:
    assert use_one_arena()
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize(("lean", "arenas"), [(True, 1), (False, 5)])
def test_threads_share_one_arena(lean: bool, arenas: int) -> None:
    script = ARENAS.format(lean=lean)
    statistics = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert statistics.stderr.count("Arena ") == arenas
