"""What is committed for installing: settings and options are those of the code, and systemd takes the units."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from twinsite.cli.services import services_app
from twinsite.control.settings import ControllerSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = ("twinsite-controller.service", "twinsite-node@.service")
DEFAULT = re.compile(r"^#(\w+ = .*)$", re.MULTILINE)
EXAMPLE = re.compile(r"^## (\w+ = .*)$", re.MULTILINE)
GIVEN_ELSEWHERE = {"data_dir", "config_file"}
"""Settings that a settings file cannot hold: where it is itself."""


def read_settings(pattern: re.Pattern[str]) -> dict[str, Any]:
    """Return the keys and values of the lines that fit."""
    return tomllib.loads("\n".join(pattern.findall((DEPLOY / "twinsite.toml").read_text())))


def test_the_settings_file_has_every_key_with_its_default() -> None:
    defaults, examples = read_settings(DEFAULT), read_settings(EXAMPLE)
    fields = {name: field.default for name, field in ControllerSettings.model_fields.items()}
    assert {*defaults, *examples} == set(fields) - GIVEN_ELSEWHERE
    assert defaults == {name: fields[name] for name in defaults}
    assert {fields[name] for name in examples} == {None}


def test_every_key_of_the_settings_file_is_explained() -> None:
    lines = (DEPLOY / "twinsite.toml").read_text().splitlines()
    for number, line in enumerate(lines):
        if DEFAULT.match(line) or EXAMPLE.match(line):
            assert re.match(r"# [A-Z]", lines[number - 1]) or re.match(r"# \w", lines[number - 2]), line
            assert lines[number - 1].endswith((".", "?")), line


def test_the_examples_can_be_used(tmp_path: Path) -> None:
    lines = EXAMPLE.findall((DEPLOY / "twinsite.toml").read_text())
    (tmp_path / "twinsite.toml").write_text("\n".join(lines))
    settings = ControllerSettings(data_dir=tmp_path)
    assert settings.public_url == read_settings(EXAMPLE)["public_url"]


def options_of(command: str) -> set[str]:
    """Return the long options of a command."""
    group: Any = typer.main.get_command(services_app)
    return {option for parameter in group.commands[command].params for option in parameter.opts if "--" in option}


@pytest.mark.parametrize("unit", UNITS)
def test_units_call_commands_with_options_that_there_are(unit: str) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
    program, command, *arguments = shlex.split(line)
    assert program.endswith("/bin/twinsite")
    given = {argument for argument in arguments if argument.startswith("--")}
    assert given <= options_of(command)
    if command == "controller":
        (options,) = re.findall(r"^Environment=OPTIONS=(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
        assert options.partition("=")[0] in options_of(command)
        return
    text = (DEPLOY / "node.env").read_text()
    explained = set(re.findall(r"^# (--[a-z-]+)  +[A-Z]", text, re.MULTILINE))
    assert explained == options_of(command) - given
    used = {
        item.partition("=")[0] for item in shlex.split(text.split("OPTIONS=", 1)[1].replace('"', "")) if item.strip()
    }
    assert used <= explained


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    made = []
    for unit in UNITS:
        # The program need not be installed here; and an instance is what is started.
        text = (DEPLOY / "systemd" / unit).read_text().replace("/opt/twinsite/bin/twinsite", "/bin/true")
        made.append(tmp_path / unit.replace("@", "@az1"))
        made[-1].write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", *map(str, made)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/etc/twinsite/twinsite.toml", "/etc/twinsite/node-token"])
def test_the_run_book_gives_the_units_user_what_it_reads(path: str) -> None:
    texts = [(DEPLOY / "node.env").read_text(), *((DEPLOY / "systemd" / unit).read_text() for unit in UNITS)]
    assert any(path in text for text in texts), "a unit names it"
    assert all("User=twinsite\n" in text for text in texts[1:])
    book = (DEPLOY.parent / "docs/operating.md").read_text()
    given = rf"(install\b.* -o twinsite\b|chown twinsite)\b.* {re.escape(path)}\b"
    assert re.search(given, book), f"nobody makes {path} readable for the user twinsite"


@pytest.mark.parametrize("script", ["attach", "detach"])
def test_scripts_are_programs(script: str) -> None:
    assert os.access(DEPLOY / script, os.X_OK)
    subprocess.run(["sh", "-n", DEPLOY / script], check=True, timeout=10)
