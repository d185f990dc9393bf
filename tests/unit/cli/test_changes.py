"""What can be changed of volumes and quotas, the formats of results, and names that the shell completes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.support.running_api import Api, write_clouds
from tests.unit.cli.conftest import Run, Shell, ok
from twinsite.cli.main import app

Complete = Callable[..., list[str]]


def test_a_volume_is_extended_renamed_and_tagged(shell: Shell, name: str) -> None:
    volume = shell.volume(name, "az1")
    assert shell.json("volume", "extend", name, "--size", "3", "--wait")["size"] == 3
    refused = shell.run("volume", "extend", name, "--size", "2")
    assert (refused.status, "EVS" in refused.errors) == (1, True)
    assert shell.json("volume", "update", name, "--description", "of the shop")["description"] == "of the shop"
    assert shell.json("volume", "tag", name, "owner=finance", "level=a-b") == {"owner": "finance", "level": "a-b"}
    shown = ok(shell.run("volume", "tag", volume.id, "owner=sales", "--remove", "level", "--remove", "nothing")).output
    assert shown.split() == ["Key", "Value", "owner", "sales"]
    assert shell.json("volume", "tag", name) == {"owner": "sales"}
    wrong = shell.run("volume", "tag", name, "=x")
    assert (wrong.status, "KEY=VALUE" in wrong.errors) == (2, True)
    assert shell.json("volume", "metadata", name, "a/b=c=d", "draft=x") == {"a/b": "c=d", "draft": "x"}
    shown = ok(shell.run("volume", "metadata", name, "backup=daily", "--remove", "draft", "--remove", "nothing")).output
    assert shown.split() == ["Key", "Value", "a/b", "c=d", "backup", "daily"]


def test_quotas(shell: Shell, api: Api) -> None:
    before = shell.json("quota", "show")
    try:
        changed = shell.json("quota", "set", "--volumes", "777", "--groups", "-1")
        assert (changed["volumes"]["limit"], changed["replication_consistency_groups"]["limit"]) == (777, -1)
        rows = [line.split() for line in ok(shell.run("quota", "show", "--project", before["id"])).output.splitlines()]
        assert [row[-2] for row in rows if row[0] in ("Volumes", "Groups")] == ["777", "any"]
    finally:
        reset = shell.json("quota", "reset")
    limits = [key for key, value in before.items() if isinstance(value, dict)]
    assert [reset[key]["limit"] for key in limits] == [before[key]["limit"] for key in limits]
    assert shell.run("quota", "set").status == 2
    assert shell.run("quota", "show", "--project", "nobody").status == 1


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("token",),
        ("volume", "list"),
        ("pair", "list"),
        ("group", "list"),
        ("quota", "show"),
        ("volume", "show", "NAME"),
        ("volume", "tag", "NAME"),
        ("volume", "connect", "NAME"),
        ("pair", "show", "NAME"),
        ("group", "show", "NAME"),
        ("group", "status", "NAME"),
        ("group", "events", "NAME"),
        ("group", "plan", "sync", "NAME"),
    ],
    ids=" ".join,
)
def test_json_and_yaml_say_the_same(shell: Shell, name: str, command: tuple[str, ...]) -> None:
    if "NAME" in command:
        shell.group(name)
    words = [name if word == "NAME" else word for word in command]
    as_json, as_yaml = (ok(shell.run(*words, "-o", output)).output for output in ("json", "yaml"))
    told, same = json.loads(as_json), yaml.safe_load(as_yaml)
    assert type(told) is type(same)
    if isinstance(told, dict):
        assert list(told) == list(same)
    if command[0] not in ("status", "token"):  # Which tell of the moment.
        assert told == same


@pytest.fixture
def complete(run: Run, api: Api, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Return a function that says what a shell offers after some words, the last of which is not complete."""

    def offered(*words: str, data: Path | None = api.data_dir) -> list[str]:
        if data is not None:
            monkeypatch.setenv("TWINSITE_DATA", str(data))
        monkeypatch.setenv("_TWINSITE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["twinsite", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setattr(sys, "argv", ["twinsite"])
        result = run()
        monkeypatch.delenv("_TWINSITE_COMPLETE")
        monkeypatch.delenv("TWINSITE_DATA", raising=False)
        assert result.errors == ""
        return result.output.split()

    return offered


def test_the_shell_completes_names(shell: Shell, name: str, complete: Complete) -> None:
    shell.group(name)
    twins = [shell.volume(f"{name}-twin", "az1").id for _ in range(2)]
    assert complete("group", "failover", name) == [name]
    assert complete("group", "plan", "sync", name[:-2]) == [name]
    assert complete("pair", "show", name) == [name]
    assert complete("volume", "show", name) == [name, f"{name}-dr"]
    assert sorted(twins) == [found for found in complete("volume", "delete", "") if found in twins]
    assert complete("volume", "create", "x", "--az", "az") == ["az1", "az2"]
    assert complete("group", "reverse", name, "--to", "az2") == ["az2"]
    assert complete("site", "forget", "") == ["az1", "az2"]


def test_completion_fails_in_silence(complete: Complete, tmp_path: Path, api: Api) -> None:
    assert complete("group", "sh") == ["show"]
    for url, password in (("http://127.0.0.1:1", "secret"), (api.url, "wrong-secret")):
        write_clouds(tmp_path / "clouds.yaml", url, password)
        assert complete("group", "show", "", data=tmp_path) == []
    (tmp_path / "clouds.yaml").unlink()
    assert complete("group", "show", "", data=None) == []
    assert complete("group", "show", "", data=tmp_path / "nowhere") == []


def test_a_shell_of_its_own_completes_names(shell: Shell, api: Api, name: str) -> None:
    shell.group(name)
    environment = {
        **os.environ,
        "_TWINSITE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"twinsite group show --data {api.data_dir} {name[:-1]}",
        "COMP_CWORD": "5",
        "TWINSITE_DATA": "",
    }
    script = "import sys; sys.argv = ['twinsite']; from twinsite.cli.main import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout.split(), result.stderr) == ([name], "")


def test_every_command_explains_itself() -> None:
    def walk(command: Any, words: tuple[str, ...]) -> None:
        assert command.help, words
        commands: dict[str, Any] = getattr(command, "commands", {})
        for found, inner in commands.items():
            walk(inner, (*words, found))
        if not commands:
            for parameter in command.params:
                assert getattr(parameter, "help", None), (words, parameter.name)

    walk(typer.main.get_command(app), ())


def commands_of(command: Any, words: tuple[str, ...] = ("twinsite",)) -> set[str]:
    """Return all commands, as one types them."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        return {" ".join(words)}
    return {found for name, below in inner.items() for found in commands_of(below, (*words, name))}


def test_the_page_on_the_command_line_names_the_commands_that_there_are() -> None:
    page = (Path(__file__).parents[3] / "docs/cli.md").read_text()
    named = set(re.findall(r"`(twinsite [a-z]+(?: [a-z]+)?)`", page))
    there = commands_of(typer.main.get_command(app))
    assert named <= there
    objects = ("status", "volume", "pair", "group", "site", "quota")
    assert {command for command in there if command.split()[1] in objects} <= named
