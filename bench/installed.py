"""Whole installations, as `twinsite up` starts them, and groups in them that are driven through the HTTP API."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.running import Context
from tests.support import api_group, installation
from twinsite.errors import StorageFault
from twinsite.nbd_client import NbdClient

Group = api_group.Group
"""Production disks in az1, paired with DR disks in az2."""
Installation = installation.Installation
WAIT_SECONDS_MAX = installation.WAIT_SECONDS_MAX
"""Longest wait of an installation or a group for any one thing."""
POLL_SECONDS = 0.005
PROBE_BYTES = 4096
PROBE_SECONDS_MAX = 5.0


def start_installation(stack: ExitStack, context: Context, title: str) -> Installation:
    """Start an installation whose nodes are all connected; everything ends with the stack."""
    context.say(f"{title}: starting an installation")
    started = Installation(directory=context.workspace.new_directory(stack))
    stack.callback(started.close)
    started.start()
    started.wait_connected()
    return started


def installed_group(stack: ExitStack, context: Context, pair_count: int, title: str) -> Group:
    """Start an installation with a group in sync; everything ends with the stack."""
    group = Group(start_installation(stack, context, title), pair_count)
    group.synchronize()
    return group


def uris(group: Group, site: str) -> list[str]:
    """Return where a site serves the group's disks: the same for their whole lives, whether it serves them or not."""
    sockets = group.installation.directory / site / "run" / "n"
    return [f"nbd+unix:///{volume}?socket={sockets}/{volume}.sock" for volume in group.disks(site)]


def first_read(uri: str, deadline: float) -> bytes:
    """Return a disk's first bytes as soon as it is served. Raises `StorageFault` when it is not by the deadline.

    The deadline is on the clock of `time.perf_counter`.
    """
    while True:
        try:
            return read_once(uri)
        except StorageFault:
            if time.perf_counter() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def read_once(uri: str) -> bytes:
    """Return a disk's first bytes. Raises `StorageFault` when it is not served."""
    with NbdClient(uri, timeout_seconds=PROBE_SECONDS_MAX) as client:
        return client.read(0, PROBE_BYTES)
