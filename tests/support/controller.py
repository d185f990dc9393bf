"""A controller in this process, and a client that is logged in: what the tests of the API share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import argon2
import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.fake_node import FakeNode, running, settle
from twinsite.api.app import create_app
from twinsite.api.server import ControllerServer, make_server
from twinsite.control import database
from twinsite.control.controller import Controller
from twinsite.control.settings import ControllerSettings

WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.01
Json = dict[str, Any]


class Site:
    """A controller with two fake nodes and a client of its API."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, settings: ControllerSettings) -> None:
        """Wrap a running application."""
        self.app = app
        self.http = http
        self.settings = settings
        token = (settings.secrets_dir / "node-token").read_text().strip()
        self.az1 = FakeNode(http, "az1", token)
        self.az2 = FakeNode(http, "az2", token)
        self.project_id = ""

    @property
    def controller(self) -> Controller:
        """Return the controller behind the application."""
        controller: Controller = self.app.state.controller
        return controller

    @property
    def password(self) -> str:
        """Return the admin's password."""
        return (self.settings.secrets_dir / "admin-password").read_text().strip()

    async def log_in(self, token: str | None = None) -> None:
        """Log the client in as the admin of the admin project, unless it has a `token` of that."""
        if token is not None:
            self.http.headers["X-Auth-Token"] = token
            answer = await self.http.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
            self.project_id = answer.json()["token"]["project"]["id"]
            return
        answer = await self.http.post("/identity/v3/auth/tokens", json=login_body(self.password))
        assert answer.status_code == 201, answer.text
        self.project_id = answer.json()["token"]["project"]["id"]
        self.http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    async def call(self, method: str, path: str, body: object = None, *, version: str = "v2") -> httpx.Response:
        """Make a call below the project's path."""
        url = f"/{version}/{self.project_id}{path}"
        return await self.http.request(method, url, json=body)

    async def settle(self) -> None:
        """Let both nodes do all that they are asked for."""
        await settle(self.az1, self.az2)

    @contextlib.asynccontextmanager
    async def nodes_running(self) -> AsyncIterator[None]:
        """Run both nodes in the background."""
        async with running(self.az1, self.az2):
            yield

    async def make_volume(self, zone: str = "az1", **fields: object) -> Json:
        """Create a volume and wait until it is available."""
        answer = await self.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": zone, **fields}})
        assert answer.status_code == 202, answer.text
        await self.settle()
        return await self.show("volumes", answer.json()["volume"]["id"], "volume")

    async def make_pair(self, **fields: object) -> Json:
        """Create two volumes and a pair of them."""
        production, dr = await self.make_volume("az1"), await self.make_volume("az2")
        body = {
            "volume_ids": [production["id"], dr["id"]],
            "priority_station": "az1",
            "replication_model": "hypermetro",
            **fields,
        }
        answer = await self.call("POST", PAIRS, {"replication": body})
        assert answer.status_code == 202, answer.text
        return await self.show_pair(answer.json()["replication"]["id"])

    async def make_group(self, pairs: int = 1) -> Json:
        """Create a group of new pairs and wait until it is available."""
        ids = [(await self.make_pair())["id"] for _ in range(pairs)]
        answer = await self.call("POST", GROUPS, {"replication_consistency_group": group_fields(ids)})
        assert answer.status_code == 202, answer.text
        await self.settle()
        return await self.show_group(answer.json()["replication_consistency_group"]["id"])

    async def show(self, kind: str, object_id: str, key: str) -> Json:
        """Show an object that is expected to exist."""
        answer = await self.call("GET", f"/{kind}/{object_id}")
        assert answer.status_code == 200, answer.text
        view: Json = answer.json()[key]
        return view

    async def show_volume(self, volume_id: str) -> Json:
        """Show a volume."""
        return await self.show("volumes", volume_id, "volume")

    async def show_pair(self, pair_id: str) -> Json:
        """Show a pair."""
        return await self.show("os-vendor-replications", pair_id, "replication")

    async def show_group(self, group_id: str) -> Json:
        """Show a group."""
        return await self.show("os-vendor-replication-consistency-groups", group_id, "replication_consistency_group")

    async def act(self, group_id: str, action: str, value: object = None) -> httpx.Response:
        """Make an action on a group; `action` is "sync", "stop" or a whole key."""
        key = f"os-{action}-replication-consistency-group" if "-" not in action else action
        return await self.call("POST", f"{GROUPS}/{group_id}/action", {key: value})


PAIRS = "/os-vendor-replications"
GROUPS = "/os-vendor-replication-consistency-groups"


def group_fields(pair_ids: list[str], **fields: object) -> Json:
    """Return the fields of a new group."""
    return {"replication_ids": pair_ids, "priority_station": "az1", "replication_model": "hypermetro", **fields}


def login_body(password: str, scope: object = None) -> Json:
    """Return the body of a login as admin, by default into the admin project."""
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    wanted = {"project": {"name": "admin", "domain": {"id": "default"}}} if scope is None else scope
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": wanted}}


def make_settings(directory: Path, **values: Any) -> ControllerSettings:
    """Return settings for tests: a node that is not stepped for a while still counts as connected."""
    return ControllerSettings(data_dir=directory, **{"node_silence_seconds": 600.0, **values})


class _Statements(dict[Any, Any]):
    """What SQLAlchemy made of statements, for all engines of one kind: else each controller begins with none of it."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Look for a statement, whose key begins with the dialect of its engine."""
        return super().get(self._without_engine(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(self._without_engine(key), compiled)

    @staticmethod
    def _without_engine(key: Any) -> Any:
        dialect, *statement = key
        return dialect.name, dialect.driver, *statement


_statements = _Statements()


@contextlib.contextmanager
def made_for_tests() -> Iterator[None]:
    """Let what is made in the block share statements, and hash passwords as Argon2 can in no time."""
    make_engine = functools.partial(create_async_engine, execution_options={"compiled_cache": _statements})
    make_hasher = functools.partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
    with (
        mock.patch.object(database, "create_async_engine", make_engine),
        mock.patch.object(argon2, "PasswordHasher", make_hasher),
    ):
        yield


@contextlib.asynccontextmanager
async def _opened(app: FastAPI, *, is_real: bool) -> AsyncIterator[None]:
    """Open the controller of an application, and close it at the end."""
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.nullcontext() if is_real else made_for_tests():
            await stack.enter_async_context(app.router.lifespan_context(app))
        yield


@contextlib.asynccontextmanager
async def open_site(
    settings: ControllerSettings, token: str | None = None, *, nodes_of: Site | None = None, is_real: bool = False
) -> AsyncIterator[Site]:
    """Start a controller in this event loop, without a socket; let both nodes report.

    The client is logged in with `token`, or by the admin's password when there is none. The nodes are new, or go on
    from where those of `nodes_of` were. What `made_for_tests` makes cheap is as it is for operators with `is_real`.
    """
    app = create_app(settings)
    async with (
        _opened(app, is_real=is_real),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://twinsite.test") as http,
    ):
        site = Site(app, http, settings)
        if nodes_of is not None:
            site.az1.go_on_from(nodes_of.az1)
            site.az2.go_on_from(nodes_of.az2)
        await site.log_in(token)
        await site.settle()
        yield site


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces, within a bound."""
    for _ in range(int(WAIT_SECONDS_MAX / POLL_SECONDS)):
        if condition():
            return
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"waited for {WAIT_SECONDS_MAX} s in vain")


@contextlib.asynccontextmanager
async def serve(settings: ControllerSettings) -> AsyncIterator[tuple[ControllerServer, str]]:
    """Run a real server on a port of the kernel's choice; give it and its address."""
    server = make_server(settings, "127.0.0.1", 0)
    task = asyncio.create_task(server.serve())
    try:
        with made_for_tests():
            await until(lambda: server.started or task.done())
        assert server.started, "the server ended before it started"
        yield server, f"http://127.0.0.1:{server.bound_port()}"
    finally:
        server.should_exit = True
        await server.let_waiters_go()
        await task
