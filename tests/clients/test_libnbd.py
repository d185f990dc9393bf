"""libnbd's Python binding against the server. The binding belongs to the system's Python, so it runs there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.nbd_volume import ServedVolume, run_peer

SYSTEM_PYTHON = "/usr/bin/python3"
PEER = Path(__file__).with_name("libnbd_peer.py")


def has_libnbd() -> bool:
    """Return whether the system's Python has the binding."""
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", "import nbd"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_libnbd(), reason="python3-libnbd is not installed")


@pytest.mark.parametrize(
    "check",
    [
        "simple_replies",
        "structured_replies",
        "out_of_range",
        "flags",
        "block_status",
        "block_status_that_was_not_agreed",
        "many_connections",
        "in_flight",
        "largest_requests",
    ],
)
def test_check(volume: ServedVolume, check: str) -> None:
    run_peer(SYSTEM_PYTHON, str(PEER), check, volume.uri)


def test_over_tcp(volume: ServedVolume) -> None:
    run_peer(SYSTEM_PYTHON, str(PEER), "in_flight", volume.tcp_uri)


def test_read_only(read_only_volume: ServedVolume) -> None:
    run_peer(SYSTEM_PYTHON, str(PEER), "read_only", read_only_volume.uri)
