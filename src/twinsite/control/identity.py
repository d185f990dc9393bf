"""Users, projects and tokens in the shape of Keystone v3, embedded."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
import time
import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.caller import ADMIN_ROLE, BUILT_IN_ROLES, Caller, with_implied
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.login_limits import LoginLimits
from twinsite.control.models import Assignment, Domain, Project, Role, Token, User
from twinsite.control.passwords import Passwords
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import accounts, directory

DEFAULT_DOMAIN_ID = "default"
DEFAULT_DOMAIN_NAME = "Default"
TOKEN_BYTES = 32
KEY_CHARACTERS_MAX = 400
"""How much of an unknown user's name is remembered."""

_log = structlog.get_logger(__name__)


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

    def __init__(self, context: Context, passwords: Passwords) -> None:
        """Work on the controller's database."""
        self._context = context
        self._passwords = passwords
        settings = context.settings
        self.limits = LoginLimits(settings.login_failures_per_user, settings.login_failures_per_address, time.monotonic)

    async def bootstrap(self, admin_password: str) -> None:
        """Make the first domain, project, roles and user; make the admin's password the given one.

        So whoever may read the secrets on the controller's machine is let in again by a restart, whatever happened to
        the admin.
        """
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
            project.enabled = user.enabled = True
            role = await _make_roles(session)
            await session.flush()
            if ADMIN_ROLE not in await accounts.roles(session, user.id, project_id=project.id):
                session.add(_assignment(user, role, project_id=project.id))
            if ADMIN_ROLE not in await accounts.roles(session, user.id, domain_id=domain.id):
                session.add(_assignment(user, role, domain_id=domain.id))
            if not await self._passwords.matches(user.password_hash, admin_password):
                user.password_hash = await self._passwords.hash(admin_password)
            self._passwords.use_decoy(user.password_hash)

    async def log_in(self, login: PasswordLogin, scope: Scope, address: str) -> tuple[str, Caller]:
        """Check a password; return a new token's text and what it stands for. Refuses as `check_password`."""
        user = await self.check_password(login, address)
        return await self._issue(user.id, scope, ["password"], password_hash=user.password_hash)

    async def check_password(self, login: PasswordLogin, address: str) -> User:
        """Return the user whose password this is.

        `RequestRefused` (401) when user or password is wrong, and (413) when that happened too often: to this user, or
        from this address.
        """
        async with self._context.database.read() as session:
            user = await _find_user(session, login.user)
        key = user.id if user is not None else repr(login.user)[:KEY_CHARACTERS_MAX]
        seconds = self.limits.begin(key, address)
        if seconds:
            _log.warning("log-in is put off", user=key, address=address, seconds=seconds)
            message = f"Too many log-ins failed, for this user or from this address. Try again in {seconds} s."
            raise RequestRefused(413, "EVS.5413", message, retry_after_seconds=seconds)
        right = await self._passwords.matches(user.password_hash if user is not None else None, login.password)
        if user is None or not right or not user.enabled:
            why = "unknown user" if user is None else "wrong password" if not right else "user is disabled"
            _log.warning("log-in failed", user=key, address=address, why=why)
            raise unauthorized("The user or the password is wrong.")
        self.limits.succeed(key, address)
        return user

    async def exchange(self, token_text: str, scope: Scope) -> tuple[str, Caller]:
        """Return a new token for an old one, with another scope and the same end of life."""
        caller = await self.authenticate(token_text)
        assert caller.token is not None
        methods = sorted({*caller.token.methods, "token"})
        return await self._issue(caller.user_id, scope, methods, digest=caller.token.digest)

    async def _issue(
        self, user_id: str, scope: Scope, methods: list[str], *, password_hash: str = "", digest: str = ""
    ) -> tuple[str, Caller]:
        """Make a token for who knew the password of this hash, or had the token of this digest.

        Both are looked at again in the transaction that makes the token: what was changed or revoked meanwhile opens
        nothing.
        """
        text = secrets.token_urlsafe(TOKEN_BYTES)
        now = utc_now()
        lifetime = datetime.timedelta(seconds=self._context.settings.token_lifetime_seconds)
        async with self._context.database.write() as session:
            user = await accounts.find_user(session, user_id=user_id, locked=True)
            old = await accounts.find_token(session, digest, now) if digest else None
            if user is None or not user.enabled or (user.password_hash != password_hash if not digest else old is None):
                raise unauthorized("The user or the token was changed meanwhile. Log in again.")
            project_id, domain_id = await _resolve_scope(session, user_id, scope)
            token = Token(
                digest=_digest(text),
                user_id=user_id,
                project_id=project_id,
                domain_id=domain_id,
                methods=methods,
                audit_id=base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
                issued_at=now,
                expires_at=old.expires_at if old is not None else now + lifetime,
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
            if not _is_alive(token):
                raise unauthorized("The user of the token, or what it is for, is disabled.")
            roles: list[str] = []
            if token.project_id is not None or token.domain_id is not None:
                target = {"project_id": token.project_id, "domain_id": token.domain_id}
                roles = await accounts.roles(session, token.user_id, **target)
                if not roles:
                    raise unauthorized("The user has no role any more on what the token is for.")
        return _caller(token, roles)

    async def revoke(self, token_text: str) -> None:
        """End a token's life now."""
        async with self._context.database.write() as session:
            await accounts.delete_token(session, _digest(token_text))

    async def projects(self, caller: Caller) -> list[Project]:
        """Return the projects that the caller has a role on."""
        async with self._context.database.read() as session:
            return list(await accounts.projects_of_user(session, caller.user_id))

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


def _is_alive(token: Token) -> bool:
    parts = (token.user, token.user.domain, token.project, token.domain)
    return all(part is None or part.enabled for part in parts)


async def _make_roles(session: AsyncSession) -> Role:
    """Make the built-in roles that are missing; return the administrators'."""
    found = {role.name: role for role in await directory.listed(session, Role, {})}
    for name in BUILT_IN_ROLES:
        if name not in found:
            found[name] = Role(id=uuid.uuid4().hex, name=name)
            session.add(found[name])
    return found[ADMIN_ROLE]


def _assignment(user: User, role: Role, project_id: str | None = None, domain_id: str | None = None) -> Assignment:
    return Assignment(
        id=str(uuid.uuid4()), user_id=user.id, project_id=project_id, domain_id=domain_id, role_id=role.id
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
        if project is None or not project.enabled or not await accounts.roles(session, user_id, project_id=project.id):
            raise unauthorized(f"The user has no role on the project {named.name or named.id!r}.")
        return project.id, None
    if scope.domain is not None:
        named = scope.domain
        found = await accounts.find_domain(session, domain_id=named.id, name=named.name)
        if found is None or not found.enabled or not await accounts.roles(session, user_id, domain_id=found.id):
            raise unauthorized(f"The user has no role on the domain {named.name or named.id!r}.")
        return None, found.id
    return None, None
