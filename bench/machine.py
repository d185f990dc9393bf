"""Facts about this machine and the peers on it, so that a result can be judged later."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from twinsite.core.limits import MIB

SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own, to which its packages of Python modules belong."""
LIBNBD_BINDING = "libnbd for Python"

PACKAGES = {
    "fio": "fio",
    "nbdkit": "nbdkit",
    "nbdcopy": "libnbd-bin",
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-img": "qemu-utils",
    "rsync": "rsync",
    "socat": "socat",
    "xxhsum": "xxhash",
    "ss": "iproute2",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "dd": "coreutils",
    LIBNBD_BINDING: "python3-libnbd",
}
"""The peers' programs, and a module, and the Debian packages that bring them."""

VERSION_SECONDS_MAX = 10.0
_VERSION_OPTIONS = {"socat": "-V", "ip": "-V"}
"""Of those that do not know `--version`."""


def missing_tools(tools: tuple[str, ...]) -> list[str]:
    """Return a sentence for each program that is not there, with the way out."""
    return [f"{tool} is not installed: apt-get install {PACKAGES[tool]}" for tool in tools if not _is_installed(tool)]


def peer_versions() -> dict[str, str | None]:
    """Return the first line of what each peer says of its version; None for one that is not there."""
    return {tool: _version(tool) for tool in PACKAGES}


def machine_facts(directory: Path) -> dict[str, str | int | list[float]]:
    """Return what a reader needs to know of the machine, and of the file system that the volumes lie on."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _first_value(Path("/proc/cpuinfo"), "model name"),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": importlib.metadata.version("uvloop"),
        "file_system": _file_system(directory),
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def _is_installed(tool: str) -> bool:
    return _libnbd_version() is not None if tool == LIBNBD_BINDING else shutil.which(tool) is not None


def _libnbd_version() -> str | None:
    """Return the version of the library behind the system's binding, or None without one."""
    command = [SYSTEM_PYTHON, "-c", "import nbd; print(nbd.NBD().get_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_SECONDS_MAX, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(tool: str) -> str | None:
    if tool == LIBNBD_BINDING:
        return _libnbd_version()
    if shutil.which(tool) is None:
        return None
    try:
        done = subprocess.run(
            [tool, _VERSION_OPTIONS.get(tool, "--version")],
            capture_output=True,
            timeout=VERSION_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout or done.stderr).decode(errors="replace").splitlines()
    return lines[0] if lines else "unknown"


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Return the type of the file system that holds `directory`: that of the longest mount point above it."""
    real = directory.resolve()
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this_kind = line.split()[:3]
        point = Path(mount.replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, this_kind
    return kind
