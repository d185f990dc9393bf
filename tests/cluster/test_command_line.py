"""A night of an operator who has only the command line: real processes, a real terminal for what is typed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import QUICK_NOTICE, Installation, open_client, wait_for

COMMAND_SECONDS_MAX = 240.0
TIMEOUT = ("--timeout", "120")
WORDS = b"written before the disaster"


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it printed."""

    status: int
    output: str
    errors: str


class Operator:
    """Types commands, each a process of its own."""

    def __init__(self, data: Path) -> None:
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OS_")},
            "TWINSITE_DATA": str(data),
            "COLUMNS": "100",
        }

    def run(self, *words: str, typed: str | None = None) -> Result:
        """Run a command; with `typed`, at a terminal where that is typed."""
        command = [sys.executable, "-m", "twinsite.cli.main", *words]
        with contextlib.ExitStack() as stack:
            source: int = subprocess.DEVNULL
            if typed is not None:
                terminal, source = os.openpty()
                stack.callback(os.close, terminal)
                stack.callback(os.close, source)
                os.write(terminal, f"{typed}\n".encode())
            done = subprocess.run(
                command,
                stdin=source,
                capture_output=True,
                text=True,
                check=False,
                env=self._environment,
                timeout=COMMAND_SECONDS_MAX,
            )
        return Result(done.returncode, done.stdout, done.stderr)

    def do(self, *words: str, typed: str | None = None) -> Result:
        """Run a command that is to succeed."""
        result = self.run(*words, typed=typed)
        assert result.status == 0, (words, result)
        return result

    def read(self, *words: str) -> Any:
        """Run a command that is to succeed, and read its JSON."""
        return json.loads(self.do(*words, "-o", "json").output)

    def is_content(self) -> bool:
        """Say whether nothing is the matter, as far as the controller has heard by now."""
        return self.run("status", "--check").status == 0

    def advice(self) -> list[dict[str, str]]:
        """What is the matter with the one group."""
        (group,) = self.read("status")["groups"]
        found: list[dict[str, str]] = group["advice"]
        return found


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    for name, value in QUICK_NOTICE.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(Installation()) as made:
        made.start()
        made.wait_connected()
        yield made


def exchange(operator: Operator, volume: str, write: bytes | None = None) -> bytes:
    """Connect to a volume as `volume connect` says, perhaps write at its start, and return what is read there."""
    uri = operator.read("volume", "connect", volume)["data"]["uri"]
    with contextlib.closing(open_client(uri)) as host:
        if write is not None:
            host.write(0, write)
            host.flush()
        return bytes(host.read(0, len(WORDS)))


def test_a_group_is_made_lost_saved_and_brought_home(installation: Installation) -> None:
    operator = Operator(installation.directory)
    # Two disks, a pair, a group: it is said that it is not protected, and how to change that.
    for name, zone in (("db", "az1"), ("db-dr", "az2")):
        operator.do("volume", "create", name, "--size", "1", "--az", zone, "--wait")
    operator.do("pair", "create", "db", "--production", "db", "--dr", "db-dr", "--wait")
    operator.do("group", "create", "shop", "--pair", "db", "--wait")
    assert operator.run("status", "--check").status == 5
    (advice,) = operator.advice()
    assert advice["command"] == "twinsite group sync shop"
    refused = operator.run("group", "plan", "failover", "shop")
    assert (refused.status, "is stale" in refused.output) == (1, True)
    operator.do(*advice["command"].split()[1:], "--wait", *TIMEOUT)
    wait_for(operator.is_content, "a screen that asks for no hand")
    assert exchange(operator, "db", WORDS) == WORDS

    # A site is lost. The screen says so, and what to do.
    operator.do("rehearse", "lose", "az1")
    wait_for(lambda: operator.advice()[0]["severity"] == "critical", "a screen that tells of the loss")
    (advice, *_) = operator.advice()
    assert advice["command"] == "twinsite group failover shop"
    screen = operator.run("status", "--check")
    assert (screen.status, "az1   silent" in screen.output, "CRITICAL shop" in screen.output) == (5, True, True)
    told = operator.read("group", "plan", "failover", "shop")
    assert (told["allowed"], told["loss"], told["to_site"]) == (True, None, "az2")

    # Nobody fails over by accident: not without the name, not with another one.
    assert operator.run("group", "failover", "shop").status == 2
    assert operator.run("group", "failover", "shop", typed="db").status == 1
    assert operator.read("group", "show", "shop")["priority_station"] == "az1"
    done = operator.do("group", "failover", "shop", "--wait", *TIMEOUT, typed="shop")
    assert "az2 is primary" in done.output
    assert "Nothing." in done.errors, "what is lost"
    assert exchange(operator, "db-dr") == WORDS

    # It comes back; the group is protected again, and goes home. A repeated command does nothing more.
    assert operator.run("group", "plan", "reprotect", "shop").status == 1
    operator.do("rehearse", "return", "az1")
    wait_for(lambda: operator.run("group", "plan", "reprotect", "shop").status == 0, "a site that is back")
    operator.do("group", "reprotect", "shop", "--yes", "--wait", *TIMEOUT)
    for _ in range(2):
        home = ("group", "reverse", "shop", "--to", "az1", "--yes", "--wait", *TIMEOUT)
        assert "az1 is primary (term 3)" in operator.do(*home).output
    wait_for(operator.is_content, "a screen that asks for no hand")
    assert exchange(operator, "db") == WORDS
    actions = [event["action"] for event in operator.read("group", "events", "shop", "-n", "100")]
    assert {"create", "sync", "failover", "reprotect", "reverse"} <= set(actions)

    # And all of it is taken apart.
    for volume in ("db", "db-dr"):
        for attachment in operator.read("volume", "show", volume)["attachments"]:
            operator.do("volume", "disconnect", volume, "--yes", "--host", attachment["host_name"])
    operator.do("group", "stop", "shop", typed="shop")
    operator.do("group", "update", "shop", "--remove-pair", "db", "--wait")
    operator.do("group", "delete", "shop", "--yes", "--wait")
    operator.do("pair", "delete", "db", "--yes", "--wait")
    operator.do("volume", "delete", "db", "db-dr", "--wait", typed="2")
    assert operator.read("volume", "list") == []
