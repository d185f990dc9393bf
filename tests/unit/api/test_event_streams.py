"""Server-sent events over real sockets, and the feed that they read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from tests.support.accounts import make_project, make_token
from tests.support.controller import GROUPS, WAIT_SECONDS_MAX, Json, Site, make_settings, serve, until
from tests.support.site_fixtures import Prepared
from tests.unit.api.test_events import gone_group
from tests.unit.api.test_moves import active_group
from twinsite.api import event_stream
from twinsite.api.answers import FeedEventAnswer, FeedEventList
from twinsite.control.lifecycle import event_feed
from twinsite.control.models import GroupEvent
from twinsite.control.repository import feed

FEED = "/os-vendor-events"


@pytest.fixture
async def live(prepared: Prepared, tmp_path: Path) -> AsyncIterator[Site]:
    """A controller on a real socket."""
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, poll_seconds=0.05)
    async with (
        serve(settings) as (server, url),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=WAIT_SECONDS_MAX) as http,
    ):
        site = Site(server.app, http, settings)
        await site.log_in(prepared.token)
        await site.settle()
        yield site


class Stream:
    """An open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self._lines = response.aiter_lines()

    async def next(self) -> Json:
        """Return the next event, held to its documented shape."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            position = None
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments.append(line)
                elif name == "id":
                    position = int(value)
                elif name == "data":
                    event: Json = json.loads(value)
                    FeedEventAnswer.model_validate(event)
                    assert event["position"] == position
                    return event
        raise AssertionError("the stream ended")

    async def until_end(self) -> None:
        """Wait until the server ends the stream."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments.append(line)


@contextlib.asynccontextmanager
async def follow(
    site: Site, path: str = FEED, *, after: int | None = None, token: str | None = None
) -> AsyncIterator[Stream]:
    """Open a stream. What was recorded before is published before, so that it begins behind that."""
    await site.controller.feed.publish()
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    headers |= {} if token is None else {"X-Auth-Token": token}
    url = f"/v2/{site.project_id}{path}"
    accept = {"Accept": "text/event-stream", **headers}
    async with site.http.stream("GET", url, params={"follow": "true"}, headers=accept) as response:
        if response.status_code != 200:
            await response.aread()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def test_a_stream_tells_what_happens_and_resumes_where_it_was(live: Site) -> None:
    group = await live.make_group()
    path = f"{GROUPS}/{group['id']}/events"
    async with follow(live, path) as stream:
        assert (await live.call("PUT", f"{GROUPS}/{group['id']}", _named("first"))).status_code == 202
        assert (await live.act(group["id"], "sync")).status_code == 200
        first = await stream.next()
        second = await stream.next()
    assert first["group_id"] == second["group_id"] == group["id"]
    assert "update" in first["kinds"]
    assert "sync" in second["kinds"]
    assert first["position"] < second["position"]
    async with follow(live, path, after=first["position"]) as stream:
        assert await stream.next() == second
    listed = (await live.call("GET", FEED)).json()
    FeedEventList.model_validate(listed)
    positions = [event["position"] for event in listed["events"]]
    assert positions == sorted(positions, reverse=True)
    assert listed["events"][0]["group_name"] == "first"
    page = (await live.call("GET", f"{FEED}?limit=1&marker={listed['events'][0]['id']}")).json()
    assert page["events"] == listed["events"][1:2]
    async with follow(live, after=0) as stream:
        everything = [await stream.next() for _ in listed["events"]]
    assert everything == listed["events"][::-1], "from 0 on it has everything, the oldest first"


async def test_a_stream_ends_cleanly_with_the_server(prepared: Prepared, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with contextlib.AsyncExitStack() as stack:
        async with serve(make_settings(directory)) as (server, url):
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
            site = Site(server.app, http, make_settings(directory))
            await site.log_in(prepared.token)
            stream = await stack.enter_async_context(follow(site))
        await stream.until_end()  # A stream that is cut raises instead.


async def test_a_stream_lives_on_and_ends_with_its_token(live: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.05)
    token = await make_token(live, "reader")
    async with follow(live, token=token) as stream:
        group = await live.make_group()
        assert (await stream.next())["group_id"] == group["id"]
        subject = {"X-Auth-Token": token, "X-Subject-Token": token}
        assert (await live.http.delete("/identity/v3/auth/tokens", headers=subject)).status_code == 204
        await stream.until_end()
        assert any("still here" in line for line in stream.comments)


@pytest.mark.parametrize("is_revoked", [True, False], ids=["revoked", "role taken"])
async def test_a_busy_stream_ends_with_its_right(
    live: Site, monkeypatch: pytest.MonkeyPatch, *, is_revoked: bool
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 1.0)
    token = await make_token(live, "reader")
    group = await live.make_group()

    async def keep_busy() -> None:
        for number in range(1000):
            await live.call("PUT", f"{GROUPS}/{group['id']}", _named(f"name {number}"))

    async with follow(live, token=token) as stream:
        busy = asyncio.create_task(keep_busy())
        try:
            await stream.next()
            if is_revoked:
                subject = {"X-Auth-Token": token, "X-Subject-Token": token}
                assert (await live.http.delete("/identity/v3/auth/tokens", headers=subject)).status_code == 204
            else:
                monkeypatch.setattr(live.controller.policy, "allows", lambda *_: False)
            await stream.until_end()
            assert not busy.done()
            assert not any("still here" in line for line in stream.comments)
        finally:
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)


async def test_publishing_outlives_a_database_that_restarts(live: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = asyncio.Event()
    look = feed.has_unpublished

    async def refuse(session: AsyncSession) -> bool:
        if not refused.is_set():
            refused.set()
            raise ConnectionRefusedError
        return await look(session)

    monkeypatch.setattr(feed, "has_unpublished", refuse)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await refused.wait()
    async with follow(live) as stream:
        group = await live.make_group()
        assert (await stream.next())["group_id"] == group["id"]


async def test_a_stream_ends_with_its_group(live: Site) -> None:
    group = await live.make_group()
    removal = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await live.call("PUT", f"{GROUPS}/{group['id']}", removal)).status_code == 202
    await live.settle()
    path = f"{GROUPS}/{group['id']}/events"
    async with follow(live, path) as stream:
        assert (await live.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
        last = await stream.next()
        assert last["kinds"] == ["delete"]
        await stream.until_end()
    refused = await live.call("GET", f"{path}?follow=true")
    assert refused.status_code == 404
    # Who was away gets what it missed, and is then told that this was all.
    async with follow(live, path, after=last["position"] - 1) as stream:
        assert await stream.next() == last
        await stream.until_end()
    headers = {"Last-Event-ID": str(last["position"])}
    url = f"/v2/{live.project_id}{path}?follow=true"
    assert (await live.http.get(url, headers=headers)).status_code == 404


async def test_a_stream_does_not_end_before_the_deletion_is_published(
    live: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await live.make_group()
    removal = {"replication_consistency_group": {"remove_replication_ids": group["replication_ids"]}}
    assert (await live.call("PUT", f"{GROUPS}/{group['id']}", removal)).status_code == 202
    await live.settle()
    held, go_on = asyncio.Event(), asyncio.Event()
    find = feed.unpublished

    async def slow(session: AsyncSession, limit: int) -> Sequence[GroupEvent]:
        found = await find(session, limit)
        if any(event.action == "delete" for event in found) and not go_on.is_set():
            held.set()
            return []
        return found

    monkeypatch.setattr(feed, "unpublished", slow)
    async with follow(live, f"{GROUPS}/{group['id']}/events") as stream, asyncio.timeout(WAIT_SECONDS_MAX):
        assert (await live.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 202
        await held.wait()
        coming = asyncio.create_task(stream.next())
        position = await live.controller.feed.start(live.project_id, group["id"], None)
        assert await live.controller.feed.wait(live.project_id, group["id"], position, 0.0) is None
        go_on.set()
        assert (await coming)["kinds"] == ["delete"]


async def test_streams_are_counted(live: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "STREAMS_PER_PROJECT_MAX", 2)
    async with follow(live), follow(live):
        refused = await live.call("GET", f"{FEED}?follow=true")
        assert (refused.status_code, refused.headers["retry-after"]) == (413, "60")
    feed = live.controller.feed
    await until(lambda: not feed._streams)
    async with follow(live):
        pass


async def test_tenants_see_their_own(live: Site) -> None:
    await live.make_group()
    project_id = await make_project(live, "others")
    token = await make_token(live, "member", project_id)
    headers = {"X-Auth-Token": token}
    gone = await gone_group(live)
    listed = await live.http.get(f"/v2/{project_id}{FEED}", headers=headers)
    assert listed.json() == {"events": []}
    (group,) = (await live.call("GET", GROUPS)).json()["replication_consistency_groups"]
    for query, group_id in itertools.product(("", "?follow=true"), (group["id"], gone["id"])):
        place = {**headers, "Last-Event-ID": "0"}
        answer = await live.http.get(f"/v2/{project_id}{GROUPS}/{group_id}/events{query}", headers=place)
        assert answer.status_code == 404
    assert (await live.call("GET", f"{GROUPS}/{gone['id']}/events")).status_code == 200
    marker = (await live.call("GET", FEED)).json()["events"][0]["id"]
    answer = await live.http.get(f"/v2/{project_id}{FEED}?marker={marker}", headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?follow=perhaps", {}, 400),
        ("?follow=true", {"Last-Event-ID": "-1"}, 400),
        ("?follow=true", {"Last-Event-ID": "9" * 30}, 400),
        ("?follow=true", {"Accept": "application/json"}, 406),
        ("", {"Accept": "text/event-stream"}, 406),
    ],
)
async def test_what_is_no_stream_is_refused(site: Site, query: str, headers: dict[str, str], status: int) -> None:
    answer = await site.http.get(f"/v2/{site.project_id}{FEED}{query}", headers=headers)
    assert answer.status_code == status


async def test_positions_are_given_once_and_in_order(site: Site) -> None:
    await active_group(site)
    feed = site.controller.feed
    await asyncio.gather(*(feed.publish() for _ in range(3)))
    context = site.controller.context
    before = [event.position for event in await feed.page(site.project_id, None, 1000, 0)][::-1]
    assert before == list(range(1, len(before) + 1))
    # Two controllers that find the same events give each one position between them.
    async with context.database.write() as session:
        await session.execute(update(GroupEvent).values(position=None))
    await asyncio.gather(*(feed.publish() for _ in range(3)))
    after = [event.position for event in await feed.page(site.project_id, None, 1000, 0)][::-1]
    assert after == [position + len(before) for position in before if position is not None]


async def test_a_place_of_the_future_is_that_of_a_restored_database(site: Site) -> None:
    await active_group(site)
    await site.controller.feed.publish()
    newest = await site.controller.feed.start(site.project_id, None, None)
    assert newest > 0
    assert await site.controller.feed.start(site.project_id, None, newest + 1000) == newest
    assert await site.controller.feed.start(site.project_id, None, 1) == 1


def _named(name: str) -> Json:
    return {"replication_consistency_group": {"name": name}}
