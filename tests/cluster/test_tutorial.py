"""The tutorial and the README are true: each of their commands is run, in order, and prints what the page shows of it.

What differs from run to run, such as times, sizes of file systems and names of machines, is taken out of both.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.console import Step, steps
from tests.support.installation import QUICK_NOTICE, WAIT_SECONDS_MAX, Installation

ROOT = Path(__file__).parents[2]
PAGES = ("docs/tutorial.md", "README.md")
POLL_SECONDS = 0.5
LOOKS = re.compile(r"twinsite (status|group status|group plan|group events)")
"""Commands that only look, and may be repeated until they show what is to come."""
STARTED_BY_THE_TEST = ("export ", "twinsite up ")

VARIES = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+"), "TIME"),
    (re.compile(r"(?<=socket=)\S+(?=/az)"), "DATA"),
    (re.compile(r"(?<=^Last )(acknowledged|applied) +[0-9]+"), r"\1 NUMBER"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}"), "TIME"),
    (re.compile(r"[0-9.]+ .iB of [0-9.]+ .iB \([0-9]+ %\)"), "ROOM"),
    (re.compile(r"(?<=\()[^()]+(?=\), if they run)"), "HOST"),
    (re.compile(r"(connected|TIME) +\S+ +(?=[0-9]+ group)"), r"\1 NODE "),
    (re.compile(r" +"), " "),
)


def comparable(line: str) -> str:
    """Return a line without what differs from run to run."""
    for pattern, replacement in VARIES:
        line = pattern.sub(replacement, line)
    return line.strip()


def missing(step: Step, output: str) -> list[str]:
    """Return the lines that the tutorial shows and that were not printed, in any order."""
    printed = {comparable(line) for line in output.splitlines()}
    return [line for line in step.shown if comparable(line) not in printed]


@pytest.mark.parametrize("page", PAGES)
def test_each_command_prints_what_the_page_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUICK_NOTICE.items():
        monkeypatch.setenv(name, value)
    installation = Installation()
    bin_dir = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "TWINSITE_DATA": str(installation.directory),
        "HOME": str(tmp_path),
        "COLUMNS": "200",
    }

    state = tmp_path / "variables"
    state.touch()

    def run(command: str) -> tuple[int, str]:
        # Each command has the variables that the ones before it have set, as in one terminal.
        script = f". {state}; set -a; {command}\ncode=$?; export -p >{state}; exit $code"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=4 * WAIT_SECONDS_MAX,
        )
        return done.returncode, done.stdout + done.stderr

    try:
        installation.start()
        todo = steps((ROOT / page).read_text(encoding="utf-8"), STARTED_BY_THE_TEST)
        assert len(todo) > 15, "the page has its commands in console blocks"
        for step in todo:
            deadline = time.monotonic() + 2 * WAIT_SECONDS_MAX
            while True:
                code, output = run(step.command)
                # head ends before nbdcopy, which says so. A plan that would be refused ends with a status of its own.
                is_right = code == 0 or "| head" in step.command
                left = missing(step, output)
                if is_right and not left:
                    break
                looks_again = LOOKS.match(step.command) and time.monotonic() < deadline
                assert looks_again, f"{step.command} ends with {code} and does not print {left}, but:\n{output}"
                time.sleep(POLL_SECONDS)
        assert installation.stop()[0] == 0
    finally:
        installation.close()
