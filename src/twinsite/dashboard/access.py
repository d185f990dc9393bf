"""How the page reaches the API: over HTTP's interface, without a socket, as the browser's own address.

The page runs in the controller's process, so its requests go straight to the application (ASGI). The application
cannot tell them from others: the same log-in, the same rules, the same audit, and failed log-ins count for the address
of the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
from starlette.types import ASGIApp

from twinsite.client import Access, AsyncClient, GivenAccess, Trust, Unauthorized
from twinsite.client.session import decoded
from twinsite.client.steps import Plan, Reply, Send
from twinsite.dashboard.session import PageSession
from twinsite.errors import PeerViolation

API_URL = "http://controller.internal"
"""Stands for the application itself; no packet goes there."""
ENDED = "Your log-in has ended. Log in again."


@dataclass(frozen=True, slots=True)
class Door:
    """The API behind the page. `keystone_url` (`https://…/v3`) is where to log in instead, if that is set."""

    api: ASGIApp
    keystone_url: str | None = None
    keystone_ca_file: str | None = None

    def client(self, session: PageSession | None, address: str) -> AsyncClient:
        """Return a client of the API for a session, as the browser at `address`. Close it after use."""
        uses = 0

        def get(_is_new: bool) -> Access:
            nonlocal uses
            uses += 1
            if session is None or session.project_id is None or uses > 1:
                raise Unauthorized(401, ENDED)
            return Access(f"{API_URL}/v2/{session.project_id}", session.token)

        trust = Trust("the page", ca_file=self.keystone_ca_file)
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False, client=(address, 0))
        return AsyncClient(GivenAccess(get, trust), mounts={API_URL: transport})

    @property
    def identity_url(self) -> str:
        """Return where tokens come from."""
        return self.keystone_url.rstrip("/") if self.keystone_url else f"{API_URL}/identity/v3"

    async def log_in(self, user: str, password: str, domain: str, address: str) -> PageSession:
        """Return the session of a user, in the only project there is for them, or else in none yet.

        Raises `ApiRefused` and `ApiUnreachable`.
        """
        named = {"name": user, "password": password, "domain": {"name": domain}}
        identity = {"methods": ["password"], "password": {"user": named}}
        async with self.client(None, address) as client:
            session = await client.run(self._token({"identity": identity, "scope": "unscoped"}))
            projects = await client.run(self._projects(session.token))
            if len(projects) != 1:
                return session
            return await client.run(self._enter(session, next(iter(projects))))

    async def projects(self, session: PageSession, address: str) -> dict[str, str]:
        """Return the names of the projects that a user may enter, by their ids. Raises as `log_in`."""
        async with self.client(session, address) as client:
            return await client.run(self._projects(session.token))

    async def enter(self, session: PageSession, project_id: str, address: str) -> PageSession:
        """Return the session of the same user in a project. Raises as `log_in`."""
        async with self.client(session, address) as client:
            return await client.run(self._enter(session, project_id))

    async def log_out(self, session: PageSession, address: str) -> None:
        """Revoke the token. Raises as `log_in`; a token that is no longer good is no error."""
        async with self.client(session, address) as client:
            await client.run(self._revoke(session.token))

    def _token(self, auth: Mapping[str, Any]) -> Plan[PageSession]:
        reply: Reply = yield Send("POST", f"{self.identity_url}/auth/tokens", {"auth": auth})
        if reply.status == 401:
            raise Unauthorized(401, "The user or the password is wrong.")
        answer = decoded(reply, "POST auth/tokens")
        try:
            token, fields = reply.headers["x-subject-token"], answer["token"]
            project = fields.get("project") or {}
            return PageSession(token, fields["user"]["name"], project.get("id"), project.get("name"))
        except (KeyError, TypeError, AttributeError) as error:
            raise PeerViolation(f"{self.identity_url} did not answer a token") from error

    def _projects(self, token: str) -> Plan[dict[str, str]]:
        reply: Reply = yield Send("GET", f"{self.identity_url}/auth/projects", token=token)
        answer = decoded(reply, "GET auth/projects")
        try:
            return {project["id"]: project["name"] for project in answer["projects"]}
        except (KeyError, TypeError) as error:
            raise PeerViolation(f"{self.identity_url} did not answer a list of projects") from error

    def _enter(self, session: PageSession, project_id: str) -> Plan[PageSession]:
        identity = {"methods": ["token"], "token": {"id": session.token}}
        entered = yield from self._token({"identity": identity, "scope": {"project": {"id": project_id}}})
        return replace(entered, user_name=session.user_name)

    def _revoke(self, token: str) -> Plan[None]:
        subject = {"X-Subject-Token": token}
        reply: Reply = yield Send("DELETE", f"{self.identity_url}/auth/tokens", token=token, headers=subject)
        if reply.status not in (401, 404):
            decoded(reply, "DELETE auth/tokens")
