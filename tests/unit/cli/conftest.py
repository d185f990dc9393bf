"""What the tests of the command line share: a real controller with two obliging nodes, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.running_api import Api, running_api
from twinsite.cli.main import main
from twinsite.client import waiting

POLL_SECONDS = 0.01


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
    with running_api(tmp_path_factory.mktemp("controller")) as api:
        yield api


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
