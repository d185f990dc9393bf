"""A real controller with two obliging nodes, in a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from tests.support.controller import make_settings, serve
from tests.support.fake_node import FakeNode, running
from twinsite.client import Client, find_cloud

START_SECONDS_MAX = 90.0


@dataclass(frozen=True, slots=True)
class Api:
    """A running controller: its data directory, with clouds.yaml, and the nodes that play its sites."""

    data_dir: Path
    url: str
    client: Client
    az1: FakeNode
    az2: FakeNode
    loop: asyncio.AbstractEventLoop


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


@contextlib.contextmanager
def running_api(directory: Path) -> Iterator[Api]:
    """Run a controller on a directory; each test that shares it gives its objects names of their own."""
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
                with Client(cloud) as client:
                    started.set_result(Api(settings.data_dir, url, client, az1, az2, loop))
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
