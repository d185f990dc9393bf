"""What the tests of the command line share: a real controller with two obliging nodes, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.controller import make_settings, serve
from tests.support.fake_node import FakeNode, running
from twinsite.cli import waiting
from twinsite.cli.client import ApiClient
from twinsite.cli.cloud import find_cloud
from twinsite.cli.main import main

START_SECONDS_MAX = 30.0
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Api:
    """A running controller: its data directory, with clouds.yaml, and the nodes that play its sites."""

    data_dir: Path
    url: str
    client: ApiClient
    az1: FakeNode
    az2: FakeNode


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it printed."""

    status: int
    output: str
    errors: str


Run = Callable[..., Result]


def write_clouds(path: Path, url: str, password: str, **changes: str) -> None:
    """Write a clouds.yaml with one cloud; `changes` replace keys of its auth section."""
    auth = {
        "auth_url": f"{url}/identity/v3",
        "username": "admin",
        "password": password,
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        **changes,
    }
    path.write_text(yaml.safe_dump({"clouds": {"twinsite": {"auth": auth, "region_name": "RegionOne"}}}))


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One controller for all tests; each test gives its objects names of their own."""
    directory = tmp_path_factory.mktemp("controller")
    started: Future[Api] = Future()
    stop_asked: Future[asyncio.Event] = Future()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        stopping = asyncio.Event()
        stop_asked.set_result(stopping)
        settings = make_settings(directory)
        async with serve(settings) as (_, url), httpx.AsyncClient(base_url=url, trust_env=False) as http:
            token = (settings.secrets_dir / "node-token").read_text().strip()
            password = (settings.secrets_dir / "admin-password").read_text().strip()
            write_clouds(settings.data_dir / "clouds.yaml", url, password)
            az1, az2 = FakeNode(http, "az1", token), FakeNode(http, "az2", token)
            async with running(az1, az2):
                cloud = find_cloud(settings.data_dir, None, {}, settings.data_dir)
                with ApiClient(cloud) as client:
                    started.set_result(Api(settings.data_dir, url, client, az1, az2))
                    await stopping.wait()

    def serve_until_asked() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise
        finally:
            loop.close()

    thread = threading.Thread(target=serve_until_asked)
    thread.start()
    try:
        yield started.result(START_SECONDS_MAX)
    finally:
        stopping = stop_asked.result(START_SECONDS_MAX)
        if not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)
        thread.join(START_SECONDS_MAX)
        assert not thread.is_alive()


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
