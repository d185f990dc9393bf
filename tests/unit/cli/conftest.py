"""What the tests of the command line share: a real controller with two obliging nodes, in a thread of its own."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.running_api import Api, running_api
from twinsite.cli.main import main
from twinsite.client import waiting
from twinsite.client.models import Group, Pair, Volume

POLL_SECONDS = 0.01
PREPARE_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it printed."""

    status: int
    output: str
    errors: str


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One controller for all tests; each test gives its objects names of their own."""
    configured = structlog.get_config()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        # What the controller logs in its thread would stand among what a command prints.
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(nowhere))
        try:
            with running_api(tmp_path_factory.mktemp("controller")) as api:
                yield api
        finally:
            structlog.configure(**configured)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A function that runs the command line in an environment without any cloud."""
    for variable in ("OS_CLOUD", "OS_AUTH_URL", "OS_CLIENT_CONFIG_FILE", "TWINSITE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(waiting, "POLL_SECONDS", POLL_SECONDS)

    def run_command(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = capsys.readouterr()
        return Result(int(end.value.code or 0), printed.out, printed.err)

    return run_command


@pytest.fixture
def name() -> str:
    """Return a name that no other test uses."""
    return f"disk-{uuid.uuid4().hex[:12]}"


def ok(result: Result) -> Result:
    """Check that a command succeeded."""
    assert result.status == 0, result.errors
    return result


class Shell:
    """Runs commands on the test's controller."""

    def __init__(self, run: Run, api: Api) -> None:
        """Run commands with `run` on the controller of `api`."""
        self._run = run
        self._data = str(api.data_dir)
        self._client = api.client

    def run(self, *arguments: str) -> Result:
        """Run a command."""
        return self._run(*arguments, "--data", self._data)

    def json(self, *arguments: str) -> Any:
        """Run a command that is to succeed, and read its JSON."""
        return json.loads(ok(self.run(*arguments, "-o", "json")).output)

    # Preparations go past the command line, which would log in for each.

    def volume(self, name: str, zone: str) -> Volume:
        """Make a volume."""
        volume = self._client.create_volume(size_gib=1, zone=zone, name=name)
        return self._client.wait_for_volume(volume.id, PREPARE_SECONDS_MAX)

    def pair(self, name: str) -> Pair:
        """Make two volumes and a pair of them."""
        ids = [self.volume(name, "az1").id, self.volume(f"{name}-dr", "az2").id]
        pair = self._client.create_pair(volume_ids=ids, priority_station="az1", name=name)
        return self._client.wait_for_pair(pair.id, PREPARE_SECONDS_MAX)

    def group(self, name: str) -> Group:
        """Make a group of one pair."""
        pair_ids = [self.pair(name).id]
        group = self._client.create_group(pair_ids=pair_ids, priority_station="az1", name=name)
        return self._client.wait_for_group(group.id, PREPARE_SECONDS_MAX)


@pytest.fixture
def shell(run: Run, api: Api) -> Shell:
    """Give a shell on the test's controller."""
    return Shell(run, api)
