"""Who gets into the web page, how, and what a browser may be made to do by others."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from tests.support.accounts import make_project
from tests.support.controller import Json, Site, login_body, make_settings, open_site
from tests.support.site_fixtures import Prepared
from twinsite.dashboard.access import Door
from twinsite.dashboard.gate import FORM_BYTES_MAX, Gate, GateSettings, LoadedPage
from twinsite.dashboard.session import COOKIE_NAME, PageSession, Seal

SECRET = "a secret of this test"
ORIGIN = "http://twinsite.test"
PASSWORD = "correct horse"


class FakePage:
    """Stands for NiceGUI's application: says who is there."""

    def __init__(self) -> None:
        self.seen: list[PageSession] = []
        self.is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session: PageSession = scope["state"]["page_session"]
        self.seen.append(session)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await PlainTextResponse(f"the page of {session.user_name} in {session.project_name}")(scope, receive, send)

    async def close(self) -> None:
        self.is_closed = True


class Browser:
    """A browser that talks to a gate in front of a controller."""

    def __init__(
        self, site: Site, *, origin: str = ORIGIN, address: str = "192.0.2.7", public_url: str | None = None
    ) -> None:
        self.site = site
        self.page = FakePage()
        self.loaded = 0

        def load() -> LoadedPage:
            self.loaded += 1
            return self.page

        self.gate = Gate(Door(site.app), GateSettings(lambda: SECRET, public_url), load)
        transport = httpx.ASGITransport(self.gate, client=(address, 1))
        self.http = httpx.AsyncClient(transport=transport, base_url=origin, headers={"Origin": origin})

    async def log_in(self, password: str | None = None, **fields: str) -> httpx.Response:
        """Send the log-in form."""
        password = self.site.password if password is None else password
        return await self.http.post("/ui/login", data={"user": "admin", "password": password, **fields})


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    """A browser nobody has logged in with."""
    opened = Browser(site)
    async with opened.http:
        yield opened


async def make_user(site: Site, name: str, *projects: str) -> None:
    """Make a user who is a member of these new projects."""
    answer = await site.http.post("/identity/v3/users", json={"user": {"name": name, "password": PASSWORD}})
    user_id = answer.json()["user"]["id"]
    roles = (await site.http.get("/identity/v3/roles?name=member")).json()["roles"]
    for project in projects:
        project_id = await make_project(site, project)
        path = f"/identity/v3/projects/{project_id}/users/{user_id}/roles/{roles[0]['id']}"
        assert (await site.http.put(path)).status_code == 204


async def test_a_stranger_gets_the_log_in_form_and_nothing_else(browser: Browser) -> None:
    for path, shown in (("/ui/", "/"), ("/ui/groups/x?y", "/groups/x"), ("/ui/anything", "/anything")):
        answer = await browser.http.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/ui/login?next={shown}"
    assert (await browser.http.get("/ui")).headers["location"] == "/ui/"
    assert (await browser.http.get("/ui/_nicegui/3/static/nicegui.js")).status_code == 401
    assert browser.loaded == 0, "a page that nobody may see is not loaded"
    form = await browser.http.get("/ui/login", params={"next": "/groups/x"})
    assert form.status_code == 200
    assert 'name="password"' in form.text
    assert 'value="/groups/x"' in form.text


async def test_a_user_logs_in_and_out_with_a_cookie_that_no_script_reads(browser: Browser) -> None:
    answer = await browser.log_in(next="/groups/x")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/ui/groups/x"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/ui" in cookie
    assert "Secure" not in cookie, "over http a browser would drop it"
    page = await browser.http.get("/ui/")
    assert page.text == "the page of admin in admin"
    session = browser.page.seen[0]
    assert session.token not in answer.text + str(answer.headers) + page.text + str(page.headers)
    assert session.token not in repr(session)

    answer = await browser.http.post("/ui/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/login")
    assert COOKIE_NAME not in browser.http.cookies
    refused = await browser.site.http.get(f"/v2/{session.project_id}/volumes", headers={"X-Auth-Token": session.token})
    assert refused.status_code == 401, "logging out ends the token too"
    assert browser.loaded == 1


async def test_the_cookie_is_for_https_alone_where_that_is_offered(site: Site) -> None:
    for browser in (Browser(site, origin="https://twinsite.test"), Browser(site, public_url="https://dr.example")):
        async with browser.http:
            assert "; Secure" in (await browser.log_in()).headers["set-cookie"]


async def test_a_wrong_password_is_told_without_repeating_it(browser: Browser) -> None:
    answer = await browser.log_in("no such password", user='"><script>alert(1)</script>')
    assert answer.status_code == 401
    assert "The user or the password is wrong." in answer.text
    assert "no such password" not in answer.text
    assert "<script>" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.test", "http://twinsite.test.evil.test", "https://twinsite.test:1"]
)
@pytest.mark.parametrize("path", ["/ui/login", "/ui/logout", "/ui/project", "/ui/_nicegui_ws/socket.io"])
async def test_forms_of_other_sites_are_refused(browser: Browser, origin: str | None, path: str) -> None:
    await browser.log_in()
    session = browser.http.cookies[COOKIE_NAME]
    del browser.http.headers["Origin"]
    headers = {} if origin is None else {"Origin": origin}
    answer = await browser.http.post(path, data={"user": "admin", "password": browser.site.password}, headers=headers)
    assert answer.status_code == 403
    assert browser.http.cookies[COOKIE_NAME] == session
    assert browser.page.seen == []


async def test_the_public_address_is_an_origin_too(site: Site) -> None:
    browser = Browser(site, public_url="https://dr.example:8443")
    async with browser.http:
        browser.http.headers["Origin"] = "https://dr.example:8443"
        assert (await browser.log_in()).status_code == 303


async def websocket(gate: Gate, origin: str | None, cookie: str | None) -> Message:
    """Open the live connection; return what the server says first."""
    sent: list[Message] = []
    headers = [(b"host", b"twinsite.test")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if cookie is not None:
        headers.append((b"cookie", f"{COOKIE_NAME}={cookie}".encode()))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/ui/_nicegui_ws/socket.io",
        "headers": headers,
        "query_string": b"",
        "client": ("192.0.2.7", 1),
    }
    await gate(scope, receive, send)
    return sent[0]


async def test_the_live_connection_needs_a_session_and_our_own_page(browser: Browser) -> None:
    await browser.log_in()
    cookie = browser.http.cookies[COOKIE_NAME].strip('"')
    assert (await websocket(browser.gate, ORIGIN, cookie))["type"] == "websocket.accept"
    for origin, shown in ((None, cookie), ("http://evil.test", cookie), (ORIGIN, None), (ORIGIN, cookie[:-4])):
        assert (await websocket(browser.gate, origin, shown))["type"] == "websocket.close"
    assert len(browser.page.seen) == 1


async def test_failed_log_ins_count_as_those_of_the_api(prepared: Prepared, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    settings = make_settings(directory, login_failures_per_address=2, login_failures_per_user=0)
    async with open_site(settings, prepared.token) as site:
        here, elsewhere = Browser(site), Browser(site, address="192.0.2.8")
        async with here.http, elsewhere.http:
            for _ in range(2):
                assert (await here.log_in("wrong")).status_code == 401
            refused = await here.log_in()
            assert refused.status_code == 413
            assert "Too many log-ins failed" in refused.text
            transport = httpx.ASGITransport(site.app, client=("192.0.2.7", 1))
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as api:
                answer = await api.post("/identity/v3/auth/tokens", json=login_body(site.password))
                assert answer.status_code == 413, "the API has counted them for the browser's address"
            assert (await elsewhere.log_in()).status_code == 303, "another address is not locked out"


async def test_who_has_several_projects_chooses_one(browser: Browser) -> None:
    await make_user(browser.site, "alice", "shop", "<b>lab</b>")
    answer = await browser.log_in(PASSWORD, user="alice", next="/volumes")
    assert answer.headers["location"] == "/ui/project?next=/volumes"
    assert (await browser.http.get("/ui/")).headers["location"] == "/ui/project?next=/"
    form = await browser.http.get("/ui/project", params={"next": "/volumes"})
    assert "shop" in form.text
    assert "&lt;b&gt;lab&lt;/b&gt;" in form.text
    answer = await browser.http.post("/ui/project", data={"project": browser.site.project_id})
    assert answer.status_code == 403, "a project of somebody else"
    projects: list[Json] = (await browser.site.http.get("/identity/v3/projects?name=shop")).json()["projects"]
    answer = await browser.http.post("/ui/project", data={"project": projects[0]["id"], "next": "/volumes"})
    assert answer.headers["location"] == "/ui/volumes"
    assert (await browser.http.get("/ui/")).text == "the page of alice in shop"


async def test_who_has_no_project_is_told_so(browser: Browser) -> None:
    await make_user(browser.site, "bob")
    await browser.log_in(PASSWORD, user="bob")
    assert "You have a role in no project" in (await browser.http.get("/ui/project")).text


@pytest.mark.parametrize(
    "next_path", ["//evil.test", "https://evil.test", "/\\evil.test", "", "/a\r\nb", "/" + "x" * 600]
)
async def test_the_log_in_leads_nowhere_else(browser: Browser, next_path: str) -> None:
    assert (await browser.log_in(next=next_path)).headers["location"] == "/ui/"


async def test_only_sessions_that_were_sealed_here_are_opened(browser: Browser) -> None:
    session = PageSession("token", "mallory", "p", "p")
    forged = [Seal("another secret").close(session), "", "x", json.dumps({"token": "t"}), "é"]
    for value in forged:
        browser.http.cookies.clear()
        with contextlib.suppress(UnicodeEncodeError):
            answer = await browser.http.get("/ui/", headers={"Cookie": f"{COOKIE_NAME}={value}"})
            assert answer.status_code == 303
    good = {"Cookie": f"{COOKIE_NAME}={Seal(SECRET).close(session)}"}
    assert (await browser.http.get("/ui/", headers=good)).text == "the page of mallory in p"


async def test_a_form_that_is_too_long_has_no_fields(browser: Browser) -> None:
    assert (await browser.log_in(next="/" + "x" * FORM_BYTES_MAX)).status_code in (400, 401)


async def test_every_answer_tells_the_browser_what_it_may_do(browser: Browser) -> None:
    await browser.log_in()
    for path in ("/ui/", "/ui/login", "/ui/static/page.css", "/ui/static/../gate.py", "/ui/static/none"):
        answer = await browser.http.get(path)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await browser.http.get("/ui/")).headers["cache-control"] == "no-store"
    assert (await browser.http.get("/ui/static/none")).status_code == 404
    assert "def " not in (await browser.http.get("/ui/static/../gate.py")).text


async def test_the_api_stays_as_it_is(browser: Browser) -> None:
    for path in ("/", "/v2", "/uix", "/ui.txt", "/healthz"):
        through, straight = await browser.http.get(path), await browser.site.http.get(path)
        assert (through.status_code, through.json()) == (straight.status_code, straight.json())


async def test_the_page_ends_before_the_api(browser: Browser) -> None:
    await browser.log_in()
    await browser.http.get("/ui/")
    events: list[str] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.shutdown"
        events.append(f"page closed: {browser.page.is_closed}")

    async def receive() -> Message:
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    gate = Gate(Door(api), GateSettings(lambda: SECRET), lambda: browser.page)
    gate._page = browser.page
    await gate({"type": "lifespan"}, receive, send)
    assert events == ["page closed: True"]
