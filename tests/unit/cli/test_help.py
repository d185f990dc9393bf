"""What --help and the manual pages say beside the options: an example, exit statuses, the variables of a log-in."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.unit.cli.conftest import Run, ok
from tests.unit.cli.test_documented import ALL, Command
from twinsite.cli import man
from twinsite.cli.errors import EXIT_NOT_IN_TIME
from twinsite.cli.examples import EXAMPLES, EXIT_STATUSES, statuses_of
from twinsite.cli.main import app

GROFF_SECONDS_MAX = 30.0


def test_there_is_an_example_of_each_command() -> None:
    assert set(EXAMPLES) == {command.words for command in ALL}


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.words)
def test_the_example_is_one_of_the_command(command: Command) -> None:
    example = EXAMPLES[command.words].removeprefix('eval "$(').removesuffix(')"')
    program, *words = shlex.split(example)
    assert program == "twinsite"
    assert words[: len(command.words.split())] == command.words.split()
    found: Any = typer.main.get_command(app)
    for word in command.words.split():
        found = found.commands[word]
    # The parser takes it: arguments and options are there, and have values that they may have.
    found.make_context("twinsite", words[len(command.words.split()) :], resilient_parsing=False)
    assert (EXIT_NOT_IN_TIME in statuses_of(command.words)) is ("--wait" in command.options)


def test_help_ends_with_them(run: Run) -> None:
    shown = " ".join(ok(run("group", "failover", "--help")).output.split())
    assert "Example: twinsite group failover shop --wait" in shown
    assert "3 the API cannot be reached; 4 not done in the time given to --wait." in shown
    assert "5 " not in shown.rpartition("Exit status")[2]
    shown = " ".join(ok(run("--help")).output.split())
    for variable in ("TWINSITE_DATA", "OS_CLOUD", "OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"):
        assert variable in shown
    assert all(text in shown for text in EXIT_STATUSES.values())


def test_manual_pages_have_every_command_and_option(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "twinsite.cli.man"]
    subprocess.run([*module, str(tmp_path / "man")], check=True, timeout=GROFF_SECONDS_MAX)
    made = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "man").iterdir()}
    assert made == man.pages()
    for command in ALL:
        first, _, rest = command.words.partition(" ")
        page = made[f"twinsite-{first}.1"]
        begin = page.index(f".SS twinsite {man.roff(command.words)}\n") if rest else 0
        part = page[begin:].split("\n.SS ")[0] if rest else page
        for option in command.long_options - {"--help"}:
            assert man.roff(option) in part, (command.words, option)
        assert man.roff(EXAMPLES[command.words]) in part
    assert subprocess.run(module, check=False, capture_output=True, timeout=GROFF_SECONDS_MAX).returncode == 2


def test_manual_pages_are_good_roff() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    for name, text in man.pages().items():
        done = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z", "-K", "utf8"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=GROFF_SECONDS_MAX,
        )
        assert (done.returncode, done.stderr) == (0, ""), name


def test_what_roff_would_take_for_its_own() -> None:
    assert man.roff(".TH x") == r"\&.TH x"
    assert man.roff("'s  a\n--b \\c") == r"\&'s a \-\-b \ec"
