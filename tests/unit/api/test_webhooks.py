"""Webhooks: real receivers on real sockets, and everything that they may do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.accounts import make_project, make_token
from tests.support.controller import GROUPS, POLL_SECONDS, WAIT_SECONDS_MAX, Json, Site, make_settings, open_site
from tests.support.site_fixtures import Prepared
from twinsite.api.webhooks import DeliveryList, DeliveryOne, WebhookList, WebhookOne
from twinsite.control import webhook_sender, webhook_targets
from twinsite.control.clock import utc_now
from twinsite.control.lifecycle import webhooks as lifecycle
from twinsite.control.models import WebhookDelivery
from twinsite.control.webhook_sender import ATTEMPTS_MAX, RETRY_SECONDS_MAX, retry_seconds
from twinsite.control.webhook_targets import TargetRefused, parse_target, refuse_address, resolve

HOOKS = "/os-vendor-webhooks"
SECRET = "a secret of sixteen bytes or more"


@dataclass
class Received:
    """A request that a receiver got."""

    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Json:
        """What was sent, once its signature is checked as a receiver checks it."""
        signed = f"{self.headers['x-twinsite-timestamp']}.".encode() + self.body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert self.headers["x-twinsite-signature"] == f"v1={expected}"
        decoded: Json = json.loads(self.body)
        assert self.headers["x-twinsite-delivery"] == decoded["delivery_id"]
        assert self.headers["x-twinsite-event-kinds"] == ",".join(decoded["kinds"])
        return decoded


class Receiver:
    """A real HTTP server that answers as it is told to."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.is_silent = False
        self.url = ""
        self._got = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def close(self) -> None:
        """End."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def until(self, count: int) -> list[Received]:
        """Wait until so many requests have come."""
        async with asyncio.timeout(WAIT_SECONDS_MAX), self._got:
            await self._got.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._got:
            self.received.append(Received(headers, body))
            self._got.notify_all()
        if not self.is_silent:
            extra = "Location: http://127.0.0.1:1/\r\n" if 300 <= self.status < 400 else ""
            writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that says 200."""
    made = Receiver()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def open_door(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A controller that may send to this machine, and tries again soon."""
    monkeypatch.setattr(webhook_sender, "RETRY_SECONDS_MIN", 0.01)
    monkeypatch.setattr(webhook_sender, "RETRY_FACTOR", 1.0)
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, poll_seconds=0.02, webhook_allowed_hosts=["127.0.0.0/8", "localhost"])
    async with open_site(settings, prepared.token) as site:
        yield site


async def make_hook(site: Site, url: str, **fields: object) -> Json:
    """Make a webhook."""
    answer = await site.call("POST", HOOKS, {"webhook": {"url": url, "secret": SECRET, **fields}})
    assert answer.status_code == 202, answer.text
    WebhookOne.model_validate(answer.json())
    made: Json = answer.json()["webhook"]
    return made


async def deliveries(site: Site, hook: Json, query: str = "") -> list[Json]:
    """Return a webhook's deliveries."""
    answer = await site.call("GET", f"{HOOKS}/{hook['id']}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    DeliveryList.model_validate(answer.json())
    found: list[Json] = answer.json()["deliveries"]
    return found


async def until_state(site: Site, hook: Json, state: str, count: int = 1) -> list[Json]:
    """Wait until so many deliveries are in a state."""
    for _ in range(int(WAIT_SECONDS_MAX / POLL_SECONDS)):
        found = await deliveries(site, hook, f"?state={state}")
        if len(found) >= count:
            return found
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"{count} deliveries are not {state} in time: {await deliveries(site, hook)}")


async def test_events_are_delivered_signed(open_door: Site, receiver: Receiver) -> None:
    hook = await make_hook(open_door, receiver.url, name="pager")
    group = await open_door.make_group()
    first = (await receiver.until(1))[0].content
    assert (first["webhook_id"], first["project_id"]) == (hook["id"], open_door.project_id)
    assert first["event"]["group_id"] == group["id"]
    assert "create" in first["kinds"]
    count = len((await open_door.call("GET", f"{GROUPS}/{group['id']}/events")).json()["events"])
    done = await until_state(open_door, hook, "delivered", count)
    assert {item["event_id"] for item in done} == {item.content["event"]["id"] for item in receiver.received}
    assert len(done) == len(receiver.received) == count, "each once, when nothing goes wrong"
    assert [item["attempts"] for item in done] == [1] * count
    page = await deliveries(open_door, hook, f"?limit=1&marker={done[0]['id']}")
    assert page == done[1:2]


async def test_a_filter_lets_through_what_was_asked_for(open_door: Site, receiver: Receiver) -> None:
    hook = await make_hook(open_door, receiver.url, kinds=["sync", "failover"])
    assert hook["kinds"] == ["failover", "sync"]
    group = await open_door.make_group()
    assert (await open_door.act(group["id"], "sync")).status_code == 200
    (only,) = await receiver.until(1)
    assert "sync" in only.content["kinds"]
    await until_state(open_door, hook, "delivered")
    assert len(await deliveries(open_door, hook)) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_is_refused_is_sent_again(open_door: Site, receiver: Receiver, status: int) -> None:
    receiver.status = status
    hook = await make_hook(open_door, receiver.url, kinds=["create"])
    await open_door.make_group()
    await receiver.until(10)
    count = len(await deliveries(open_door, hook))
    receiver.status = 204
    done = await until_state(open_door, hook, "delivered", count)
    assert {(item["answer_status"], item["trouble"]) for item in done} == {(204, None)}
    sent = Counter(item.content["delivery_id"] for item in receiver.received)
    assert sent == {item["id"]: item["attempts"] for item in done}, "a receiver knows a repetition by its id"
    assert max(sent.values()) >= 3


async def test_a_delivery_is_given_up_in_the_end_and_that_is_seen(
    open_door: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "ATTEMPTS_MAX", 3)
    receiver.status = 503
    hook = await make_hook(open_door, receiver.url, kinds=["create"])
    await open_door.make_group()
    given_up = await until_state(open_door, hook, "given_up")
    assert {(item["attempts"], item["trouble"]) for item in given_up} == {(3, "the receiver answered 503")}
    receiver.status = 410
    await open_door.make_group()
    found = await until_state(open_door, hook, "given_up", len(given_up) + 1)
    assert found[0]["attempts"] == 1, "a receiver that is gone is not asked again"


async def test_a_receiver_that_does_not_answer_is_not_waited_for(
    open_door: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.is_silent = True
    hook = await make_hook(open_door, receiver.url)
    with monkeypatch.context() as patch:
        patch.setattr(webhook_sender, "SEND_SECONDS_MAX", 0.1)
        answer = await open_door.call("POST", f"{HOOKS}/{hook['id']}/action", {"os-test-webhook": None})
    assert answer.status_code == 200
    DeliveryOne.model_validate(answer.json())
    delivery = answer.json()["delivery"]
    assert (delivery["state"], delivery["kinds"]) == ("given_up", ["test"])
    assert "no answer" in delivery["trouble"]
    receiver.is_silent = False
    answer = await open_door.call("POST", f"{HOOKS}/{hook['id']}/action", {"os-test-webhook": None})
    delivery = answer.json()["delivery"]
    assert (delivery["state"], delivery["answer_status"], delivery["trouble"]) == ("delivered", 200, None)
    assert receiver.received[-1].content["event"] is None
    assert await deliveries(open_door, hook, "?limit=1") == [delivery]


async def test_a_project_whose_receiver_hangs_holds_up_no_other(
    prepared: Prepared, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Receiver()
    silent.is_silent = True
    await silent.start()
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, poll_seconds=0.02, webhook_allowed_hosts=["127.0.0.0/8"])
    try:
        async with open_site(settings, prepared.token) as site:
            hung = await make_hook(site, silent.url)
            other = await site.controller.webhooks.create("other", lifecycle.NewWebhook(receiver.url, SECRET))
            async with site.controller.context.database.write() as session:
                first = await lifecycle.find_webhook(session, site.project_id, hung["id"])
                session.add_all(lifecycle.new_delivery(first, lifecycle.trial_content()) for _ in range(40))
                await session.flush()
                session.add(lifecycle.new_delivery(other, lifecycle.trial_content()))
            await site.controller.context.wakeups.notify()
            await receiver.until(1)
            assert len(silent.received) <= webhook_sender.SENDS_OF_PROJECT_MAX
    finally:
        await silent.close()


async def test_tests_at_once_are_counted(open_door: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "SEND_SECONDS_MAX", 0.5)
    receiver.is_silent = True
    hook = await make_hook(open_door, receiver.url)
    path, body = f"{HOOKS}/{hook['id']}/action", {"os-test-webhook": None}
    answers = await asyncio.gather(*(open_door.call("POST", path, body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 413, 413, 413]
    receiver.is_silent = False
    assert (await open_door.call("POST", path, body)).status_code == 200


async def test_two_controllers_send_once(prepared: Prepared, tmp_path: Path, receiver: Receiver) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, poll_seconds=0.02, webhook_allowed_hosts=["127.0.0.1"])
    async with open_site(settings, prepared.token) as one, open_site(settings, prepared.token):
        hook = await make_hook(one, receiver.url)
        group = await one.make_group()
        count = len((await one.call("GET", f"{GROUPS}/{group['id']}/events")).json()["events"])
        await until_state(one, hook, "delivered", count)
        sent = [item.content["event"]["id"] for item in receiver.received]
        assert sorted(sent) == sorted(set(sent))
        assert len(sent) == count


async def test_what_was_being_sent_when_its_controller_died_is_sent_again(
    prepared: Prepared, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, poll_seconds=0.02, webhook_allowed_hosts=["127.0.0.1"])
    receiver.is_silent = True
    async with open_site(settings, prepared.token) as site:
        hook = await make_hook(site, receiver.url, kinds=["create"])
        await site.make_group()
        await receiver.until(1)
    receiver.is_silent = False
    async with open_site(settings, prepared.token) as again:
        pending = await deliveries(again, hook, "?state=pending")
        assert pending, "claimed, and not concluded"
        async with again.controller.context.database.write() as session:
            await session.execute(update(WebhookDelivery).values(due_at=utc_now()))  # The claim's time has passed.
        done = await until_state(again, hook, "delivered", len(await deliveries(again, hook)))
        assert max(item["attempts"] for item in done) >= 2


async def test_a_full_queue_gives_up_visibly(
    open_door: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "PENDING_MAX", 0)
    hook = await make_hook(open_door, receiver.url)
    await open_door.make_group()
    (given_up, *_) = await until_state(open_door, hook, "given_up")
    assert (given_up["attempts"], given_up["trouble"]) == (0, "0 deliveries wait already")
    assert receiver.received == []


async def test_finished_deliveries_are_bounded(
    open_door: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "FINISHED_MAX", 1)
    hook = await make_hook(open_door, receiver.url, kinds=["update"])
    group = await open_door.make_group()
    for number in range(3):
        named = {"replication_consistency_group": {"name": f"n{number}"}}
        assert (await open_door.call("PUT", f"{GROUPS}/{group['id']}", named)).status_code == 202
        await open_door.settle()
        await receiver.until(number + 1)
        await until_state(open_door, hook, "delivered")
    assert len(await deliveries(open_door, hook)) <= 2


async def test_the_secret_is_never_shown(site: Site, receiver: Receiver) -> None:
    answer = await site.call("POST", HOOKS, {"webhook": {"url": "https://example.com/hook", "secret": SECRET}})
    hook = answer.json()["webhook"]
    listed = await site.call("GET", HOOKS)
    WebhookList.model_validate(listed.json())
    assert listed.json()["webhooks"] == [hook]
    shown = await site.call("GET", f"{HOOKS}/{hook['id']}")
    assert shown.json()["webhook"] == hook
    audit = await site.call("GET", "/os-vendor-audit-records")
    assert not any(SECRET in text for text in (answer.text, listed.text, shown.text, audit.text))
    assert (await site.call("DELETE", f"{HOOKS}/{hook['id']}")).status_code == 202
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries")):
        assert (await site.call(method, f"{HOOKS}/{hook['id']}{path}")).status_code == 404


async def test_tenants_have_their_own(site: Site) -> None:
    hook = await make_hook(site, "https://example.com/hook")
    project_id = await make_project(site, "others")
    headers = {"X-Auth-Token": await make_token(site, "member", project_id)}
    base = f"/v2/{project_id}{HOOKS}"
    assert (await site.http.get(base, headers=headers)).json() == {"webhooks": []}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries")):
        answer = await site.http.request(method, f"{base}/{hook['id']}{path}", headers=headers)
        assert answer.status_code == 404
    action = {"os-test-webhook": None}
    answer = await site.http.post(f"{base}/{hook['id']}/action", headers=headers, json=action)
    assert answer.status_code == 404
    reader = {"X-Auth-Token": await make_token(site, "reader")}
    own = f"/v2/{site.project_id}{HOOKS}"
    assert (await site.http.get(own, headers=reader)).status_code == 200
    assert (await site.http.delete(f"{own}/{hook['id']}", headers=reader)).status_code == 403


async def test_webhooks_are_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "WEBHOOKS_MAX", 1)
    await make_hook(site, "https://example.com/hook")
    answer = await site.call("POST", HOOKS, {"webhook": {"url": "https://example.com/2", "secret": SECRET}})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ftp://example.com/"},
        {"url": "https://"},
        {"url": "https://user:password@example.com/"},
        {"url": "https://example.com/#part"},
        {"url": "https://example.com:0/"},
        {"url": "https://example.com:99999/"},
        {"url": "https://exa mple.com/"},
        {"url": "https://[::1/"},
        {"url": "http://127.0.0.1/"},
        {"url": "http://[::1]/"},
        {"url": "http://[::ffff:127.0.0.1]/"},
        {"url": "http://169.254.169.254/latest/meta-data"},
        {"url": "http://10.0.0.1/"},
        {"url": "http://0.0.0.0/"},
        {"secret": "short"},
        {"secret": "x" * 300},
        {"secret": "sixteen bytes\nand a line"},
        {"kinds": ["nothing"]},
        {"kinds": "sync"},
        {"name": "n" * 300},
    ],
)
async def test_what_cannot_be_a_webhook_is_refused(site: Site, fields: dict[str, Any]) -> None:
    body = {"webhook": {"url": "https://example.com/hook", "secret": SECRET, **fields}}
    answer = await site.call("POST", HOOKS, body)
    assert answer.status_code == 400, answer.text
    assert (await site.call("GET", HOOKS)).json() == {"webhooks": []}


async def test_a_name_of_a_forbidden_address_is_refused_when_it_is_looked_up(site: Site, receiver: Receiver) -> None:
    port = receiver.url.rsplit(":", 1)[1]
    hook = await make_hook(site, f"http://localhost:{port}")
    answer = await site.call("POST", f"{HOOKS}/{hook['id']}/action", {"os-test-webhook": None})
    delivery = answer.json()["delivery"]
    assert delivery["state"] == "given_up"
    assert "not a public address" in delivery["trouble"]
    assert receiver.received == []


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example.com"])
async def test_what_is_no_name_of_a_host_fails_as_a_name_that_is_unknown(site: Site, host: str) -> None:
    hook = await make_hook(site, f"https://{host}/")
    answer = await site.call("POST", f"{HOOKS}/{hook['id']}/action", {"os-test-webhook": None})
    assert answer.status_code == 200, answer.text
    assert "cannot be the name of a host" in answer.json()["delivery"]["trouble"]


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2600::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
        ("fec0::1", False),
    ],
)
def test_only_public_addresses_without_a_list(address: str, is_public: bool) -> None:
    target = parse_target("https://example.com/")
    if is_public:
        refuse_address(target, ipaddress.ip_address(address), [])
        return
    with pytest.raises(TargetRefused, match="webhook_allowed_hosts"):
        refuse_address(target, ipaddress.ip_address(address), [])


def test_a_list_allows_what_it_names_and_nothing_else() -> None:
    allowed = ["hooks.example.com", "*.inner.example.com", "10.1.0.0/16", "127.0.0.1"]
    for url, address in (
        ("https://hooks.example.com/", "8.8.8.8"),
        ("https://HOOKS.example.com./", "192.168.0.1"),
        ("https://a.inner.example.com/", "10.9.9.9"),
        ("https://other.example.com/", "10.1.255.1"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    ):
        refuse_address(parse_target(url), ipaddress.ip_address(address), allowed)
    for url, address in (
        ("https://example.com/", "8.8.8.8"),
        ("https://inner.example.com.evil.org/", "8.8.8.8"),
        ("https://other.example.com/", "10.2.0.1"),
    ):
        with pytest.raises(TargetRefused):
            refuse_address(parse_target(url), ipaddress.ip_address(address), allowed)


async def test_one_bad_address_of_a_name_refuses_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int, **_options: object) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(TargetRefused):
        await resolve(parse_target("https://example.com/"), [])


def test_pauses_grow_to_a_bound_and_cover_a_night() -> None:
    pauses = [retry_seconds(attempts) for attempts in range(1, ATTEMPTS_MAX)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRY_SECONDS_MAX
    assert sum(pauses) > 20 * 3600
    assert webhook_targets.URL_CHARACTERS_MAX <= 2048, "the column's width"
