"""Runs a command under a filter of system calls, as systemd does for `SystemCallFilter=`.

`python syscall_filter.py NAMES COMMAND…`: NAMES is a file with the allowed calls, one a line. Any other one ends the
process by SIGSYS. Needs no rights, since it gives up that of getting more; and nothing but the standard library,
because it runs where only that can be relied on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
UNKNOWN = -1
"""A name that this machine's libseccomp does not know, so that nothing there can call it."""


def allow_only(names: list[str]) -> None:
    """Let this process, and all that come from it, make these system calls and no others."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    calls = ctypes.c_void_p(library.seccomp_init(KILL_PROCESS))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            library.seccomp_rule_add(calls, ALLOW, number, 0)
    error = library.seccomp_load(calls)
    if error:
        raise OSError(-error, "the filter of system calls cannot be loaded")


if __name__ == "__main__":
    allow_only(Path(sys.argv[1]).read_text(encoding="ascii").split())
    os.execv(sys.argv[2], sys.argv[2:])
