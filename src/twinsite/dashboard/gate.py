"""What stands in front of the page: who comes in, and under which rules of browsers.

Requests below /ui are the page's; all others go to the API untouched. Whoever has no session gets the log-in form and
nothing else. What changes something must come from the page itself: forms and the live connection are refused when the
`Origin` that the browser states is another one, and cookies are not sent along with other sites' forms (`SameSite`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from twinsite.client import ApiRefused, ApiUnreachable, Unauthorized
from twinsite.dashboard import forms
from twinsite.dashboard.access import ENDED, Door
from twinsite.dashboard.session import COOKIE_BYTES_MAX, COOKIE_NAME, COOKIE_PATH, PageSession, Seal, cookie_of
from twinsite.errors import TwinsiteError

ROOT = "/ui"
FORM_BYTES_MAX = 16 * 1024
FORM_SECONDS_MAX = 30.0
PATH_CHARACTERS_MAX = 500
"""Longest address that one comes back to after the log-in."""
STATIC_FILES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
STATIC_SECONDS_MAX = 300
"""How long a browser may keep these, and no longer: an upgrade must show."""
PACKAGED_CACHING = "private, max-age=604800"
"""For NiceGUI's own files, whose addresses hold its version."""

SECURITY_HEADERS = {
    # Vue compiles the page's templates in the browser, hence the two "unsafe" words; nothing comes from elsewhere.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_log = structlog.get_logger(__name__)


class LoadedPage(Protocol):
    """The page itself, once it is loaded."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of somebody who is logged in."""

    async def close(self) -> None:
        """End it."""


Loader = Callable[[], LoadedPage]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What the gate is told. `secret` is called once, at the first request; `public_url` as in the API's settings."""

    secret: Callable[[], str]
    public_url: str | None = None


class Gate:
    """The application that a server runs: the API, and the page below /ui."""

    def __init__(self, door: Door, settings: GateSettings, load: Loader) -> None:
        """Stand before `door.api`; `load` loads the page and may take seconds."""
        self._door = door
        self._settings = settings
        self._load = load
        self._seal: Seal | None = None
        self._page: LoadedPage | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, a connection, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._door.api(scope, self._ending_first(receive), send)
        elif scope["path"] == ROOT or scope["path"].startswith(f"{ROOT}/"):
            await self._admit(scope, receive, _with_headers(send, scope["path"]))
        else:
            await self._door.api(scope, receive, send)

    def _ending_first(self, receive: Receive) -> Receive:
        async def receive_message() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._page is not None:
                await self._page.close()
            return message

        return receive_message

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._session(scope)
        changes_something = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if changes_something and not self._comes_from_the_page(scope):
            _log.warning("a request from another site is refused", path=scope["path"], address=_address(scope))
            await _refuse(scope, receive, send, 403, "This request comes from another site.")
            return
        if scope["type"] == "websocket":
            if session is None or session.project_id is None:
                await _refuse(scope, receive, send, 401, ENDED)
                return
            await self._show(session, scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self._own_response(request, session)
        if response is not None:
            await response(scope, receive, send)
        elif session is not None:
            await self._show(session, scope, receive, send)

    async def _own_response(self, request: Request, session: PageSession | None) -> Response | None:
        """Return the answer to what the gate itself has; None for what only the page has."""
        path = request.url.path.removeprefix(ROOT)
        is_post = request.method == "POST"
        if path.startswith("/static/") and not is_post:
            return _static(path.removeprefix("/static/"))
        if path == "":
            return RedirectResponse(f"{ROOT}/", 307)
        try:
            match (path, is_post):
                case ("/login", True):
                    return await self._log_in(request)
                case ("/login", False):
                    return _html(forms.log_in_page(_next_path(request.query_params.get("next", ""))))
                case ("/logout", True):
                    return await self._log_out(request, session)
                case ("/project", _) if session is not None:
                    return await self._choose_project(request, session)
        except ClientDisconnect:
            return Response(status_code=400)
        if session is None or session.project_id is None:
            if path.startswith("/_nicegui"):
                return Response(ENDED, 401)
            step = "login" if session is None else "project"
            return RedirectResponse(f"{ROOT}/{step}?next={quote(path)}", 303)
        return None

    async def _log_in(self, request: Request) -> Response:
        fields = await _fields(request)
        user, domain = fields.get("user", ""), fields.get("domain") or "Default"
        next_path = _next_path(fields.get("next", ""))
        try:
            session = await self._door.log_in(user, fields.get("password", ""), domain, _address(request.scope))
        except TwinsiteError as error:
            return _html(forms.log_in_page(next_path, user, domain, _sentence(error)), _status(error))
        return self._enter(request, session, next_path)

    async def _choose_project(self, request: Request, session: PageSession) -> Response:
        address = _address(request.scope)
        fields = await _fields(request) if request.method == "POST" else dict(request.query_params)
        next_path = _next_path(fields.get("next", ""))
        trouble = ""
        try:
            if request.method == "POST":
                try:
                    return self._enter(request, await self._door.enter(session, fields["project"], address), next_path)
                except (Unauthorized, KeyError):
                    trouble = "This project cannot be entered."
            projects = await self._door.projects(session, address)
        except Unauthorized:
            return _html(forms.log_in_page(next_path, trouble=ENDED), 401)
        except TwinsiteError as error:
            return _html(forms.trouble_page("Choose a project", _sentence(error)), _status(error))
        return _html(forms.project_page(session, projects, next_path, trouble), 403 if trouble else 200)

    async def _log_out(self, request: Request, session: PageSession | None) -> Response:
        if session is not None:
            with contextlib.suppress(ApiUnreachable):
                await self._door.log_out(session, _address(request.scope))
        response = RedirectResponse(f"{ROOT}/login", 303)
        response.delete_cookie(COOKIE_NAME, path=COOKIE_PATH)
        return response

    def _enter(self, request: Request, session: PageSession, next_path: str) -> Response:
        value = self._sealer().close(session)
        if len(value) > COOKIE_BYTES_MAX:
            text = "Your token is too long for a cookie. Ask for a shorter kind, Fernet for example."
            return _html(forms.trouble_page("Log in", text), 500)
        where = f"{ROOT}{next_path}" if session.project_id is not None else f"{ROOT}/project?next={quote(next_path)}"
        response = RedirectResponse(where, 303)
        is_secure = request.url.scheme == "https" or (self._settings.public_url or "").startswith("https:")
        response.set_cookie(COOKIE_NAME, value, path=COOKIE_PATH, secure=is_secure, httponly=True, samesite="lax")
        return response

    async def _show(self, session: PageSession, scope: Scope, receive: Receive, send: Send) -> None:
        if self._page is None:
            async with self._loading:
                if self._page is None:
                    self._page = await asyncio.to_thread(self._load)
        state = {**scope.get("state", {}), "page_session": session, "page_door": self._door}
        await self._page({**scope, "state": state}, receive, send)

    def _sealer(self) -> Seal:
        if self._seal is None:
            self._seal = Seal(self._settings.secret())
        return self._seal

    def _session(self, scope: Scope) -> PageSession | None:
        value = cookie_of(scope["headers"])
        return None if value is None else self._sealer().open(value)

    def _comes_from_the_page(self, scope: Scope) -> bool:
        """Say whether the browser states the origin under which it reached us; one that states none is no browser."""
        headers = Headers(scope=scope)
        origin = urlsplit(headers.get("origin", ""))
        own = {headers.get("host", "").lower()}
        if self._settings.public_url is not None:
            own.add(urlsplit(self._settings.public_url).netloc.lower())
        return origin.scheme in ("http", "https") and origin.netloc.lower() in own


def _with_headers(send: Send, path: str) -> Send:
    caching = PACKAGED_CACHING if path.startswith(f"{ROOT}/_nicegui/") else "no-store"

    async def send_message(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            if message["status"] == 200 and caching != "no-store":
                headers["cache-control"] = caching
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_message


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await Response(text, status)(scope, receive, send)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form; of one that is too long, too slow or no text, none."""
    body = b""
    try:
        async with asyncio.timeout(FORM_SECONDS_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > FORM_BYTES_MAX:
                    return {}
        return {name: values[-1] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
    except (TimeoutError, ValueError):
        return {}


def _next_path(text: str) -> str:
    """Return the path below /ui to go on to; never another site's, whatever the address says."""
    is_ours = text.startswith("/") and not text.startswith("//") and text.isprintable() and "\\" not in text
    return text if is_ours and len(text) <= PATH_CHARACTERS_MAX else "/"


def _static(name: str) -> Response:
    kind = STATIC_FILES.get(name)
    if kind is None:
        return Response("There is no such file.", 404)
    content = importlib.resources.files(__package__).joinpath("static", name).read_bytes()
    return Response(content, media_type=kind, headers={"cache-control": f"max-age={STATIC_SECONDS_MAX}"})


def _html(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status)


def _sentence(error: TwinsiteError) -> str:
    return error.message if isinstance(error, ApiRefused) else str(error)


def _status(error: TwinsiteError) -> int:
    return error.status if isinstance(error, ApiRefused) else 502


def gate_for(door: Door, settings: GateSettings) -> Gate:
    """Return the application with the page that is loaded when it is first asked for."""

    def load() -> LoadedPage:
        from twinsite.dashboard.loading import load_page  # noqa: PLC0415 - takes a second and 40 MiB.

        return load_page()

    return Gate(door, settings, load)
