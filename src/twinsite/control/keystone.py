"""A real Keystone in the place of the embedded identity: asks it about tokens, as a service user of its own.

What it said of a token is remembered for a short time, so a token that it revokes is refused here within that time.
Requests with the same token at the same time ask once. Nothing else is asked: where the services are, and who may log
in, is Keystone's business.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import hashlib
import time
from collections import OrderedDict
from typing import Any, Protocol, TypeVar

import structlog
from keystoneauth1 import exceptions
from keystoneauth1 import session as keystone_session
from keystoneauth1.identity import v3
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.caller import Caller, with_implied
from twinsite.control.context import Context
from twinsite.control.models import Domain, Project
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import directory
from twinsite.control.settings import ControllerSettings

CALLERS_MAX = 10_000
"""Most good tokens that are remembered."""
STRANGERS_MAX = 1_000
"""Most bad ones; apart from the good ones, so that nobody can push those out."""
PROJECTS_MAX = 10_000
"""Most projects of which this process remembers that they have a row."""
QUESTIONS_MAX = 8
"""Most questions to Keystone at the same time; each takes a thread."""
TOKEN_CHARACTERS_MAX = 8192
"""A longer token is none."""

Named = TypeVar("Named", Domain, Project)
_log = structlog.get_logger(__name__)


class Authenticator(Protocol):
    """Knows tokens."""

    async def authenticate(self, token_text: str | None) -> Caller:
        """Return whose token this is; `RequestRefused` (401) when it is none, or its time is over."""


def unauthorized(message: str) -> RequestRefused:
    """Return a 401."""
    return RequestRefused(401, "Common.0013", message)


class KeystoneAuthenticator:
    """Believes a Keystone. Nothing is asked before the first token comes."""

    def __init__(self, context: Context) -> None:
        """Ask the Keystone of the settings."""
        self._context = context
        self._validator = Validator(context.settings)
        self._seconds = context.settings.keystone_cache_seconds
        self._callers: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._strangers: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Caller | None]] = {}
        self._questions = asyncio.Semaphore(QUESTIONS_MAX)
        self._known_projects: dict[str, tuple[str, str]] = {}
        self._learning = asyncio.Lock()

    async def authenticate(self, token_text: str | None) -> Caller:
        """Return whose token this is.

        `RequestRefused`: 401 when it is none, or its time is over; 503 when Keystone cannot be asked.
        """
        if not token_text:
            raise unauthorized(f"X-Auth-Token is missing. Log in at {self._context.settings.keystone_auth_url} first.")
        digest = hashlib.sha256(token_text.encode(errors="replace")).hexdigest()
        now = time.monotonic()
        remembered = self._callers.get(digest)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        is_text = token_text.isascii() and token_text.isprintable() and len(token_text) <= TOKEN_CHARACTERS_MAX
        if not is_text or now < self._strangers.get(digest, 0.0):
            raise unauthorized("The token is unknown or has expired. Log in again.")
        caller = await self._ask_once(digest, token_text)
        if caller is None:
            raise unauthorized("The token is unknown or has expired. Log in again.")
        return caller

    async def _ask_once(self, digest: str, token_text: str) -> Caller | None:
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest, token_text), name="ask keystone")
            task.add_done_callback(functools.partial(self._answered, digest))
        # A client that hangs up must not end the question that another one waits for.
        return await asyncio.shield(task)

    def _answered(self, digest: str, task: asyncio.Task[Caller | None]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # Whoever asked may have hung up; then nobody else looks at it.

    async def _ask(self, digest: str, token_text: str) -> Caller | None:
        async with self._questions:
            answer = await asyncio.to_thread(self._validator.ask, token_text)
        if answer is None:
            _remember(self._strangers, digest, time.monotonic() + self._seconds, STRANGERS_MAX)
            self._callers.pop(digest, None)
            return None
        caller = _caller(answer)
        lifetime = datetime.datetime.fromisoformat(answer["expires_at"]) - datetime.datetime.now(datetime.UTC)
        if lifetime.total_seconds() <= 0:
            return None
        await self._know_project(answer)
        seconds = min(self._seconds, lifetime.total_seconds())
        _remember(self._callers, digest, (caller, time.monotonic() + seconds), CALLERS_MAX)
        return caller

    async def _know_project(self, answer: dict[str, Any]) -> None:
        """Let the token's project have a row, for what belongs to it, under the name that it has now."""
        project = answer.get("project")
        if project is None:
            return
        names = (project["name"], project["domain"]["id"])
        if self._known_projects.get(project["id"]) == names:
            return
        async with self._learning:
            try:
                await self._store_project(project, names)
            except IntegrityError:  # Another controller has seen it at the same time.
                await self._store_project(project, names)
        if len(self._known_projects) >= PROJECTS_MAX:
            self._known_projects.clear()
        self._known_projects[project["id"]] = names

    async def _store_project(self, project: dict[str, Any], names: tuple[str, str]) -> None:
        async with self._context.database.write() as session:
            domain = await directory.find(session, Domain, project["domain"]["id"])
            if domain is None:
                await _free_name(session, Domain, project["domain"]["name"], None)
                session.add(Domain(id=project["domain"]["id"], name=project["domain"]["name"]))
                await session.flush()
            known = await directory.find(session, Project, project["id"])
            if known is None or (known.name, known.domain_id) != names:
                await _free_name(session, Project, *names)
                if known is None:
                    session.add(Project(id=project["id"], name=names[0], domain_id=names[1]))
                else:
                    known.name, known.domain_id = names

    async def close(self) -> None:
        """Wait for what was asked."""
        await asyncio.gather(*self._asking.values(), return_exceptions=True)


async def _free_name(session: AsyncSession, kind: type[Named], name: str, domain_id: str | None) -> None:
    """Take a name from a row that Keystone no longer knows under it; it is called by its id from then on."""
    other = await directory.named(session, kind, name, domain_id)
    if other is not None:
        other.name = other.id
        await session.flush()


def _remember(memory: OrderedDict[str, Any], key: str, value: Any, entries_max: int) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > entries_max:
        memory.popitem(last=False)


def _caller(answer: dict[str, Any]) -> Caller:
    user, project, domain = answer["user"], answer.get("project"), answer.get("domain")
    return Caller(
        user_id=user["id"],
        user_name=user["name"],
        user_domain_id=user["domain"]["id"],
        project_id=project["id"] if project is not None else None,
        project_domain_id=project["domain"]["id"] if project is not None else None,
        domain_id=domain["id"] if domain is not None else None,
        roles=with_implied(role["name"] for role in answer.get("roles", [])),
    )


class Validator:
    """Asks Keystone. Calls block, so they belong in a thread."""

    def __init__(self, settings: ControllerSettings) -> None:
        """Ask as the service user of the settings, who logs in with the first question."""
        password = settings.keystone_password
        assert settings.keystone_auth_url is not None and password is not None, "the settings are checked"
        self._auth_url = settings.keystone_auth_url.rstrip("/")
        plugin = v3.Password(
            auth_url=self._auth_url,
            username=settings.keystone_username,
            password=password.get_secret_value(),
            project_name=settings.keystone_project,
            user_domain_name=settings.keystone_user_domain,
            project_domain_name=settings.keystone_project_domain,
        )
        ca_file = settings.keystone_ca_file
        self._session = keystone_session.Session(
            auth=plugin,
            verify=str(ca_file) if ca_file is not None else True,
            timeout=settings.keystone_timeout_seconds,
            user_agent="twinsite",
        )

    def ask(self, token_text: str) -> dict[str, Any] | None:
        """Return what Keystone knows of a token, None when it knows none such. `RequestRefused` (503) otherwise."""
        try:
            answer = self._session.get(
                f"{self._auth_url}/auth/tokens?nocatalog",
                headers={"X-Subject-Token": token_text},
                raise_exc=False,
                # The token of somebody is in the headers; what is logged could be read by others.
                log=False,
            )
            if answer.status_code == 404:
                return None
            if answer.status_code == 200:
                token: dict[str, Any] = answer.json()["token"]
                return token
            problem = f"it answers {answer.status_code} to the service user"
        except exceptions.http.Unauthorized:
            problem = "it refuses the log-in of the service user"
        except (exceptions.ClientException, ValueError, KeyError) as error:
            problem = f"it cannot be asked ({error})"
        _log.error("Keystone does not say whose token this is", auth_url=self._auth_url, problem=problem)
        message = f"The Keystone at {self._auth_url} cannot be asked whose token this is. Try again later."
        raise RequestRefused(503, "EVS.5503", message)
