"""Following events with both clients: from now on, from a place, over broken streams, and to the end of the group."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

import httpx
import pytest

from tests.support.running_api import Api
from twinsite.client import Access, AsyncClient, ObjectMissing, clients, find_cloud
from twinsite.client.errors import ApiUnreachable
from twinsite.client.models import Group
from twinsite.client.streams import Following
from twinsite.errors import PeerViolation

WAIT_SECONDS = 20.0


@pytest.fixture
def group(api: Api) -> Iterator[Group]:
    """A new group."""
    client = api.client
    disks = [client.create_volume(size_gib=1, zone=zone) for zone in ("az1", "az2")]
    for disk in disks:
        client.wait_for_volume(disk.id, WAIT_SECONDS)
    pair = client.create_pair(volume_ids=[disk.id for disk in disks], priority_station="az1")
    made = client.create_group(pair_ids=[pair.id], priority_station="az1", name="followed")
    yield client.wait_for_group(made.id, WAIT_SECONDS)


def test_all_events_come_in_their_order_and_none_twice_over_broken_streams(
    api: Api, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RESUME_SECONDS", 0.0)
    api.client.sync_group(group.id)
    api.client.wait_for_sync(group.id, WAIT_SECONDS)
    expected = [event.id for event in api.client.group_events(group.id)][::-1]
    lines = httpx.Response.iter_lines

    def broken(response: httpx.Response) -> Iterator[str]:
        """Let each stream break after its first event."""
        for line in lines(response):
            yield line
            if line.startswith("data"):
                raise httpx.ReadError("the stream was cut")

    monkeypatch.setattr(httpx.Response, "iter_lines", broken)
    with contextlib.closing(api.client.follow_events(group.id, after=0)) as events:  # type: ignore[type-var]
        found = list(itertools.islice(events, len(expected)))
    assert [event.id for event in found] == expected
    assert {event.group_name for event in found} == {"followed"}


async def test_the_asynchronous_client_follows_too(api: Api, group: Group) -> None:
    cloud = find_cloud(api.data_dir, None, {}, api.data_dir)
    async with AsyncClient(cloud) as client, asyncio.timeout(WAIT_SECONDS):
        async with contextlib.aclosing(client.follow_events(group.id, after=0)) as events:
            first = await anext(events)
        assert first.kinds == ["create"]
        with pytest.raises(ObjectMissing):
            await anext(client.follow_events("00000000-0000-4000-8000-000000000000"))


def test_a_token_that_is_no_longer_good_is_renewed_once(api: Api, group: Group) -> None:
    access = api.client.access()
    with httpx.Client(base_url=api.url, trust_env=False) as http:
        headers = {"X-Auth-Token": access.token, "X-Subject-Token": access.token}
        assert http.delete("/identity/v3/auth/tokens", headers=headers).status_code == 204
    assert next(api.client.follow_events(group.id, after=0)).kinds == ["create"]
    assert api.client.access() != access


def test_nobody_answers_for_too_long(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "RESUME_SECONDS", 0.0)

    def cut(*_arguments: object, **_options: object) -> None:
        raise httpx.ConnectError("refused")

    api.client.access()
    monkeypatch.setattr(api.client._http, "stream", cut)
    with pytest.raises(ApiUnreachable):
        next(api.client.follow_events())


def test_lines_of_a_stream() -> None:
    following = Following(None, None)
    for line in ("retry: 2000", ": after 17", "", ": still here", "id: 18"):
        assert following.take(line) is None
    access = Access("http://api/v2/p", "token")
    assert following.headers(access)["Last-Event-ID"] == "17"
    assert following.url(access) == "http://api/v2/p/os-vendor-events"
    for wrong in ("data: {", "data: 1"):
        with pytest.raises(PeerViolation):
            following.take(wrong)
