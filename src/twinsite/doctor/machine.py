"""The machine: versions, limits, and what the kernel can do."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from twinsite.doctor.findings import Finding, error, ok, warning

PYTHON_MIN = (3, 11)
KERNEL_MIN = (5, 3)
"""pidfd_open, by which a node waits for workers that are not its children."""
OPEN_FILES_MIN = 1024
OPEN_FILES_ADVISED = 65_536
LIBRARIES = (
    *("uvicorn", "fastapi", "sqlalchemy", "aiosqlite", "httpx", "uvloop", "cryptography", "xxhash", "bitarray"),
    *("structlog", "nicegui", "typer"),
)
PRELOADS = ("eatmydata", "nosync")
"""Libraries that make flushes do nothing."""

_STA_UNSYNC = 0x0040
_TIMEX_BYTES = 256
_TIMEX_STATUS_OFFSET = 40 if ctypes.sizeof(ctypes.c_long) == 8 else 20  # After modes, offset, freq, maxerror, esterror.


def check_machine() -> Iterator[Finding]:
    """Look at this machine."""
    yield _python()
    yield _kernel(platform.release())
    yield from _libraries()
    yield open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield preloads(os.environ.get("LD_PRELOAD", ""))
    yield _clock()


def _python() -> Finding:
    text = f"Python {platform.python_version()}"
    if sys.version_info < PYTHON_MIN:
        return error("python", text, f"install Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer")
    return ok("python", text)


def _kernel(release: str) -> Finding:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    text = f"Linux {release}"
    if sys.platform != "linux":
        return error("kernel", f"this is {sys.platform}", "use a Linux machine")
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < KERNEL_MIN:
        return error("kernel", text, f"install Linux {KERNEL_MIN[0]}.{KERNEL_MIN[1]} or newer")
    return ok("kernel", text)


def _libraries() -> Iterator[Finding]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield error("libraries", f"{name} is not installed", "install twinsite anew, with pip or uv")
    yield ok("libraries", ", ".join(found))


def open_files(soft: int, hard: int) -> Finding:
    """Judge the limit of open files."""
    text = f"{soft} open files, at most {hard}"
    mend = f"raise the limit: LimitNOFILE={OPEN_FILES_ADVISED} in the unit, or 'ulimit -n {OPEN_FILES_ADVISED}'"
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < OPEN_FILES_MIN:
        return error("open files", text, mend)
    if soft != unlimited and soft < OPEN_FILES_ADVISED:
        return warning("open files", f"{text}; a controller or node of some hundred groups needs more", mend)
    return ok("open files", text)


def preloads(text: str) -> Finding:
    """Judge what is loaded before all programs."""
    if any(name in text for name in PRELOADS):
        return error("flushes", f"LD_PRELOAD={text} makes flushes do nothing", "unset it: acknowledged writes get lost")
    return ok("flushes", "no library keeps them from the disk")


def _clock() -> Finding:
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    status = ctypes.c_int.from_buffer(buffer, _TIMEX_STATUS_OFFSET).value
    if state < 0 or status & _STA_UNSYNC:
        mend = "run chrony or systemd-timesyncd; times in events and logs are compared by people"
        return warning("clock", "the kernel's clock is not synchronized, or nobody says that it is", mend)
    return ok("clock", "synchronized")
