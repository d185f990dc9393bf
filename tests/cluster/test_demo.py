"""`twinsite demo` for real: it succeeds, and whatever happens to it, nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO_SECONDS_MAX = 300.0
COMMAND = [sys.executable, "-m", "twinsite.cli.main", "demo"]


@pytest.fixture
def parent() -> Iterator[Path]:
    """The directory that the demo makes its own in, short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as path:
        yield Path(path)


def environment(parent: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(parent), "COLUMNS": "200"}


def processes_of(parent: Path) -> list[str]:
    """Return the command lines of all processes that name the demo's directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(parent) in command:
            found.append(command)
    return found


def test_the_demo_tells_its_story_and_leaves_nothing(parent: Path, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    result = subprocess.run(
        [*COMMAND, "--svg", str(picture)],
        env=environment(parent),
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    story = result.stdout
    for line in (
        "One controller and two sites, az1 and az2, answer at http://127.0.0.1:",
        "library: the Python standard library as a tar",
        '{"os-sync-replication-consistency-group": null}',
        "→ 200 OK",
        "200 times in a row, a record was on the DR disk",
        "none damaged, none missing",
        "48 scattered blocks of 64 KiB changed",
        "Nothing is left behind.",
    ):
        assert line in story, story
    assert len(re.findall(r"SHA-256 of both disks [0-9a-f]{32}…", story)) == 6
    ratio = re.search(r"3\.0 MiB changed \(ratio (\d\.\d\d)\)", story)
    assert ratio is not None
    assert 1.0 <= float(ratio[1]) <= 1.05
    assert picture.read_text().startswith("<svg")
    assert list(parent.iterdir()) == []
    assert processes_of(parent) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["1. Start two sites", "5. Synchronize the group"])
def test_an_interrupted_demo_leaves_nothing(parent: Path, number: signal.Signals, moment: str) -> None:
    process = subprocess.Popen(
        COMMAND, env={**environment(parent), "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    )
    # A demo that never gets there is ended, which ends the reading below.
    watchdog = threading.Timer(DEMO_SECONDS_MAX, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEMO_SECONDS_MAX)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 1, output
    assert "interrupted" in output
    assert list(parent.iterdir()) == []
    assert processes_of(parent) == []
