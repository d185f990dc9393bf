"""docs/cli.md has every command with its options, and every command has what all of them promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from twinsite.cli.main import app

PAGE = (Path(__file__).parents[3] / "docs/cli.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]
SERVICES = ("up", "node", "controller", "demo")
"""What goes on until it is ended, and has no result for a program."""
ON_THE_SPOT = (*SERVICES, "doctor", "kept list", "kept put-back", "kept discard", "rehearse lose", "rehearse return")
"""What does not talk to the API as a user."""
DESTRUCTIVE = (
    *(f"group {action}" for action in ("failover", "reverse", "reprotect", "stop", "sync", "delete")),
    *("pair delete", "volume delete", "volume disconnect", "webhook delete", "site forget", "kept discard"),
)


@dataclass(frozen=True)
class Command:
    """A command of the command line: its words after `twinsite`, and its options."""

    words: str
    options: frozenset[str]
    long_options: frozenset[str]


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Return every command below one."""
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))
    if not hasattr(command, "commands"):
        options = [item for item in command.params if item.param_type_name == "option"]
        every = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        yield Command(" ".join(words), frozenset(every), frozenset(name for name in every if name.startswith("--")))


ALL = list(commands(typer.main.get_command(app)))


def subject(row: str) -> str:
    """Return the first cell of a table's row: what it is about."""
    return row.split(" | ", maxsplit=1)[0]


COMMON = {option for row in ROWS if "`twinsite" not in subject(row) for option in re.findall(r"--[a-z-]+", row)}


def test_there_are_commands() -> None:
    names = {command.words for command in ALL}
    assert {"status", "group failover", "kept list", "volume connect", "up"} <= names
    assert set(DESTRUCTIVE) | set(ON_THE_SPOT) <= names


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.words)
def test_the_page_has_the_command_and_its_options(command: Command) -> None:
    rows = [row for row in ROWS if f"`twinsite {command.words}`" in subject(row)]
    assert len(rows) == 1, f"docs/cli.md explains {command.words} in one row of a table"
    told = set(re.findall(r"--[a-z-]+", rows[0])) | COMMON
    assert command.long_options <= told, f"docs/cli.md lacks {sorted(command.long_options - told)}"


def test_the_page_has_no_command_that_there_is_not() -> None:
    told = {words for row in ROWS for words in re.findall(r"`twinsite ([a-z -]+)`", subject(row))}
    assert told <= {command.words for command in ALL}
    for row in ROWS:
        named = [command for command in ALL if f"`twinsite {command.words}`" in subject(row)]
        known = set[str]().union(*(command.long_options for command in named))
        if named:
            assert set(re.findall(r"`(--[a-z-]+)", row)) <= known, row


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.words)
def test_every_command_answers_programs_and_finds_its_cloud(command: Command) -> None:
    assert ({"--output", "-o"} <= command.options) is (command.words not in SERVICES)
    if command.words not in ON_THE_SPOT:
        assert {"--data", "--os-cloud"} <= command.options
    assert ("--wait" in command.options) is ("--timeout" in command.options)
    assert ({"--yes", "-y"} <= command.options) is (command.words in DESTRUCTIVE)
