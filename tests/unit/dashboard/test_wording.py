"""What the API says of groups names the page's buttons there, and no command and no request: read from its code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import twinsite.control.lifecycle
from twinsite.dashboard.wording import MOVE_TITLES, action_of, is_about_sites, page_words

FOLDER = Path(twinsite.control.lifecycle.__file__).parent
TREES = [ast.parse(path.read_text()) for path in sorted(FOLDER.glob("*.py"))]
COMMAND_CALLS = ("command", "_command", "_quoted")
"""The functions that make a command on a group; their second argument is what stands before the group's name."""
NAMES = ("shop", "two words", "it's", "-x", "a.*(b", "“Pause”", None)


def nodes() -> Iterator[ast.AST]:
    """Yield the syntax of everything that says something about a group."""
    for tree in TREES:
        yield from ast.walk(tree)


def sentences() -> list[str]:
    """Return all texts of the code, an X for each value in them."""
    found, parts = [], set()
    for node in nodes():
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.append(node.value.replace("{}", "X").replace("{{", "{").replace("}}", "}"))
    return found


def command_words() -> set[str]:
    """Return what follows `twinsite group` in the commands that are told."""
    found = set()
    for node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COMMAND_CALLS:
            words = node.args[1]
            if isinstance(words, ast.Constant):
                found.add(str(words.value))
    return found


def test_there_is_something_to_read() -> None:
    assert {"sync", "sync --wait", "reverse", "plan failover", "plan failover --force"} <= command_words()
    assert any("(os-sync-replication-consistency-group)" in said for said in sentences())
    assert any('{"force": true}' in said for said in sentences())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("words", sorted(command_words()))
def test_every_command_on_a_group_is_a_button(words: str, name: str | None) -> None:
    called = "g-1" if name is None or name.startswith("-") else shlex.quote(name)
    command = f"twinsite group {words} {called}"
    title = MOVE_TITLES[words.removeprefix("plan ").split()[0]]
    assert page_words(f"Synchronize it: {command}", "g-1", name) == f"Synchronize it: “{title}”"
    assert page_words(f"Nothing before '{command}', which…", "g-1", name) == f"Nothing before “{title}”, which…"
    assert MOVE_TITLES[action_of(command) or ""] == title


@pytest.mark.parametrize("said", sorted({said for said in sentences() if " (os-" in said or '"force"' in said}))
def test_no_request_of_the_api_is_told(said: str) -> None:
    told = page_words(said)
    assert not re.search(r"os-|force\"|twinsite\.|[{}]|  | \.", told), told


@pytest.mark.parametrize("said", sorted({said for said in sentences() if "twinsite volume" in said}))
def test_a_disk_has_a_page(said: str) -> None:
    assert page_words(said).endswith("; the page of the disk shows the address.")


def test_no_other_command_is_told() -> None:
    # The makers of commands, whose words are above, are not sentences.
    told = {said for said in sentences() if "twinsite " in page_words(said) and "twinsite group X X" not in said}
    assert {said for said in told if not is_about_sites(said)} == set()


def test_what_users_named_stays_what_it_is() -> None:
    assert page_words("The disk twinsite group sync shop is full.", "g-1", "other") == (
        "The disk twinsite group sync shop is full."
    )
    assert action_of(None) is None
    assert action_of("twinsite site list") is None
