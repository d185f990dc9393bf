"""Users, projects and tokens in the shape of Keystone v3, embedded."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass

import argon2
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.caller import ADMIN_ROLE, Caller, with_implied
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.models import Assignment, Domain, Project, Token, User
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import accounts

DEFAULT_DOMAIN_ID = "default"
DEFAULT_DOMAIN_NAME = "Default"
TOKEN_BYTES = 32
PASSWORD_BYTES_MAX = 4096
"""A longer password is wrong without being hashed."""
HASHERS_MAX = 2
"""Argon2 takes 64 MiB and tens of milliseconds of a core: more at once would let strangers exhaust the machine."""


@dataclass(frozen=True, slots=True)
class NamedIn:
    """Who or what is meant: by id, or by name within a domain."""

    id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is to be good for; at most one of the two. Both None: unscoped."""

    project: NamedIn | None = None
    domain: NamedIn | None = None


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A user and a password."""

    user: NamedIn
    password: str


def unauthorized(message: str) -> RequestRefused:
    """Return a 401."""
    return RequestRefused(401, "Common.0013", message)


class IdentityService:
    """Logs users in and knows tokens. Only a token's SHA-256 is stored, so a stolen database opens nothing."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context
        self._hasher = argon2.PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHERS_MAX)
        self._decoy_hash: str | None = None

    async def bootstrap(self, admin_password: str) -> None:
        """Make the first domain, project and user; make the admin's password the given one."""
        settings = self._context.settings
        async with self._context.database.write() as session:
            domain = await accounts.find_domain(session, domain_id=DEFAULT_DOMAIN_ID)
            if domain is None:
                domain = Domain(id=DEFAULT_DOMAIN_ID, name=DEFAULT_DOMAIN_NAME)
                session.add(domain)
                await session.flush()
            project = await accounts.find_project(session, name=settings.admin_project, domain=domain)
            if project is None:
                project = Project(id=uuid.uuid4().hex, name=settings.admin_project, domain=domain)
                session.add(project)
            user = await accounts.find_user(session, name=settings.admin_user, domain=domain)
            if user is None:
                user = User(id=uuid.uuid4().hex, name=settings.admin_user, domain=domain, password_hash="")
                session.add(user)
            await session.flush()
            if not await accounts.roles(session, user.id, project_id=project.id):
                session.add(_assignment(user, project_id=project.id))
            if not await accounts.roles(session, user.id, domain_id=domain.id):
                session.add(_assignment(user, domain_id=domain.id))
            if not await asyncio.to_thread(self._matches, user.password_hash, admin_password):
                user.password_hash = await asyncio.to_thread(self._hasher.hash, admin_password)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def log_in(self, login: PasswordLogin, scope: Scope) -> tuple[str, Caller]:
        """Check a password; return a new token's text and what it stands for. `RequestRefused` (401) otherwise."""
        async with self._context.database.read() as session:
            user = await _find_user(session, login.user)
        # An unknown user costs the same time as a wrong password, so that names cannot be probed.
        password = login.password if len(login.password) <= PASSWORD_BYTES_MAX else ""
        async with self._hashing:
            if user is None and self._decoy_hash is None:
                self._decoy_hash = await asyncio.to_thread(self._hasher.hash, secrets.token_urlsafe(16))
            password_hash = user.password_hash if user is not None else self._decoy_hash or ""
            right = await asyncio.to_thread(self._matches, password_hash, password)
        if user is None or not right:
            raise unauthorized("The user or the password is wrong.")
        return await self._issue(user.id, scope, ["password"], None)

    async def exchange(self, token_text: str, scope: Scope) -> tuple[str, Caller]:
        """Return a new token for an old one, with another scope and the same end of life."""
        caller = await self.authenticate(token_text)
        assert caller.token is not None
        methods = sorted({*caller.token.methods, "token"})
        return await self._issue(caller.user_id, scope, methods, caller.token.expires_at)

    async def _issue(
        self, user_id: str, scope: Scope, methods: list[str], expires_at: datetime.datetime | None
    ) -> tuple[str, Caller]:
        text = secrets.token_urlsafe(TOKEN_BYTES)
        now = utc_now()
        lifetime = datetime.timedelta(seconds=self._context.settings.token_lifetime_seconds)
        async with self._context.database.write() as session:
            project_id, domain_id = await _resolve_scope(session, user_id, scope)
            token = Token(
                digest=_digest(text),
                user_id=user_id,
                project_id=project_id,
                domain_id=domain_id,
                methods=methods,
                audit_id=base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
                issued_at=now,
                expires_at=expires_at or now + lifetime,
            )
            session.add(token)
            await accounts.delete_expired_tokens(session, now)
        return text, await self.authenticate(text)

    async def authenticate(self, token_text: str | None) -> Caller:
        """Return whose token this is; `RequestRefused` (401) when it is none, or its time is over."""
        if not token_text:
            raise unauthorized("X-Auth-Token is missing. Log in at /identity/v3/auth/tokens first.")
        digest = _digest(token_text)
        async with self._context.database.read() as session:
            token = await accounts.find_token(session, digest, utc_now())
            if token is None or not hmac.compare_digest(token.digest, digest):
                raise unauthorized("The token is unknown or has expired. Log in again.")
            scoped = token.project_id is not None or token.domain_id is not None
            roles = (
                await accounts.roles(session, token.user_id, project_id=token.project_id, domain_id=token.domain_id)
                if scoped
                else []
            )
        return _caller(token, roles)

    async def revoke(self, token_text: str) -> None:
        """End a token's life now."""
        async with self._context.database.write() as session:
            await accounts.delete_token(session, _digest(token_text))

    async def projects(self, caller: Caller, name: str | None = None) -> list[Project]:
        """Return the projects that the caller has a role on."""
        async with self._context.database.read() as session:
            return list(await accounts.projects_of_user(session, caller.user_id, name))

    async def domains(self, caller: Caller) -> list[Domain]:
        """Return the domains that the caller has a role on."""
        async with self._context.database.read() as session:
            return list(await accounts.domains_of_user(session, caller.user_id))


def _digest(token_text: str) -> str:
    return hashlib.sha256(token_text.encode(errors="replace")).hexdigest()


def _caller(token: Token, roles: list[str]) -> Caller:
    user, project = token.user, token.project
    return Caller(
        user_id=user.id,
        user_name=user.name,
        user_domain_id=user.domain_id,
        project_id=token.project_id,
        project_domain_id=project.domain_id if project is not None else None,
        domain_id=token.domain_id,
        roles=with_implied(roles),
        token=token,
    )


def _assignment(user: User, project_id: str | None = None, domain_id: str | None = None) -> Assignment:
    return Assignment(
        id=str(uuid.uuid4()), user_id=user.id, project_id=project_id, domain_id=domain_id, role=ADMIN_ROLE
    )


async def _find_domain(session: AsyncSession, named: NamedIn) -> Domain | None:
    if named.domain_id is None and named.domain_name is None:
        return None
    return await accounts.find_domain(session, domain_id=named.domain_id, name=named.domain_name)


async def _find_user(session: AsyncSession, named: NamedIn) -> User | None:
    if named.id is not None:
        return await accounts.find_user(session, user_id=named.id)
    return await accounts.find_user(session, name=named.name, domain=await _find_domain(session, named))


async def _resolve_scope(session: AsyncSession, user_id: str, scope: Scope) -> tuple[str | None, str | None]:
    """Return the ids of the project or domain; `RequestRefused` (401) when the user has no role there."""
    if scope.project is not None:
        named = scope.project
        domain = await _find_domain(session, named)
        project = await accounts.find_project(session, project_id=named.id, name=named.name, domain=domain)
        if project is None or not await accounts.roles(session, user_id, project_id=project.id):
            raise unauthorized(f"The user has no role on the project {named.name or named.id!r}.")
        return project.id, None
    if scope.domain is not None:
        named = scope.domain
        found = await accounts.find_domain(session, domain_id=named.id, name=named.name)
        if found is None or not await accounts.roles(session, user_id, domain_id=found.id):
            raise unauthorized(f"The user has no role on the domain {named.name or named.id!r}.")
        return None, found.id
    return None, None
