"""What administrators of the embedded identity do: users, projects, roles, and who has which role where.

Whatever takes something from a user takes it from the tokens too, in the same transaction: a new password, a disabled
or deleted user, a disabled or deleted project, the last role on something.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.actor import current_actor
from twinsite.control.caller import BUILT_IN_ROLES
from twinsite.control.context import Context
from twinsite.control.models import Assignment, Base, Domain, Project, Role, User
from twinsite.control.passwords import Passwords
from twinsite.control.refusals import RequestRefused, bad_request, conflict
from twinsite.control.repository import accounts, directory, events, quotas
from twinsite.control.texts import check_description, check_name

_KINDS: Mapping[type[Base], str] = {User: "user", Project: "project", Domain: "domain", Role: "role"}
_log = structlog.get_logger(__name__)

Entry = TypeVar("Entry", User, Project, Domain, Role)


@dataclass(frozen=True, slots=True)
class Target:
    """What a role is given on: a project or a domain; exactly one of the two is set."""

    project_id: str | None = None
    domain_id: str | None = None

    def columns(self) -> dict[str, str]:
        """Return the column of an assignment that names it."""
        columns = {"project_id": self.project_id, "domain_id": self.domain_id}
        return {column: value for column, value in columns.items() if value is not None}


def missing(kind: str, entry_id: str) -> RequestRefused:
    """Return a 404 for what is in no project."""
    return RequestRefused(404, "EVS.5404", f"There is no {kind} {entry_id[:80]!r}.")


class DirectoryService:
    """The calls on users, projects, domains and roles. Each raises `RequestRefused` and changes nothing then."""

    def __init__(self, context: Context, passwords: Passwords) -> None:
        """Work on the controller's database."""
        self._context = context
        self._passwords = passwords

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncSession]:
        """Open a session for a change; where another controller was faster with the same name that is a 409."""
        try:
            async with self._context.database.write() as session:
                yield session
        except IntegrityError:
            raise conflict(
                "Another change came first and took the name. Look at what is there and try again."
            ) from None

    # Everything that has a name

    async def listed(self, model: type[Entry], **equal: Any) -> Sequence[Entry]:
        """Return those whose columns have these values; None does not narrow."""
        narrowed = {column: value for column, value in equal.items() if value is not None}
        async with self._context.database.read() as session:
            return await directory.listed(session, model, narrowed)

    async def show(self, model: type[Entry], entry_id: str) -> Entry:
        """Return one; `RequestRefused` (404) when there is none."""
        async with self._context.database.read() as session:
            return await _find(session, model, entry_id)

    # Users

    async def create_user(self, values: Mapping[str, Any], password: str | None) -> User:
        """Make a user: name, domain_id, and optionally description, email, enabled, default_project_id."""
        password_hash = await self._passwords.hash(password) if password is not None else ""
        async with self._writing() as session:
            await _check_entry(session, User, None, values)
            user = User(id=uuid.uuid4().hex, password_hash=password_hash, **values)
            session.add(user)
            await session.flush()
            await session.refresh(user)
        _tell("user is created", user=user.id, name=user.name)
        return user

    async def change_user(self, user_id: str, values: Mapping[str, Any], password: str | None) -> User:
        """Change a user. A new password, and being disabled, end all the user's tokens."""
        password_hash = await self._passwords.hash(password) if password is not None else None
        async with self._writing() as session:
            user = await _find(session, User, user_id, locked=True)
            await _check_entry(session, User, user, values)
            _assign(user, values)
            if password_hash is not None:
                user.password_hash = password_hash
            if password_hash is not None or not user.enabled:
                await directory.revoke_tokens(session, user_id=user_id)
        _tell("user is changed", user=user_id, changed=sorted(values), password_changed=password is not None)
        return user

    async def delete_user(self, user_id: str) -> None:
        """Delete a user with all tokens and roles."""
        async with self._context.database.write() as session:
            await session.delete(await _find(session, User, user_id, locked=True))
        _tell("user is deleted", user=user_id)

    async def projects_of(self, user_id: str) -> Sequence[Project]:
        """Return the projects that a user has a role on."""
        async with self._context.database.read() as session:
            await _find(session, User, user_id)
            return await accounts.projects_of_user(session, user_id)

    # Projects

    async def create_project(self, values: Mapping[str, Any]) -> Project:
        """Make a project: name, domain_id, and optionally description and enabled."""
        async with self._writing() as session:
            await _check_entry(session, Project, None, values)
            project = Project(id=uuid.uuid4().hex, **values)
            session.add(project)
            await session.flush()
            await session.refresh(project)
        _tell("project is created", project=project.id, name=project.name)
        return project

    async def change_project(self, project_id: str, values: Mapping[str, Any]) -> Project:
        """Change a project. Being disabled ends all tokens for it; its disks go on."""
        async with self._writing() as session:
            project = await _find(session, Project, project_id, locked=True)
            await _check_entry(session, Project, project, values)
            _assign(project, values)
            if not project.enabled:
                await directory.revoke_tokens(session, project_id=project_id)
        _tell("project is changed", project=project_id, changed=sorted(values))
        return project

    async def delete_project(self, project_id: str) -> None:
        """Delete a project that has nothing any more."""
        async with self._context.database.write() as session:
            project = await _find(session, Project, project_id, locked=True)
            things = await directory.things_of(session, project_id)
            if things:
                raise conflict(
                    f"The project {project_id} still has {things} volumes, pairs and groups. Delete those first."
                )
            await quotas.forget_limits(session, project_id)
            await events.forget_project(session, project_id)
            await session.delete(project)
        _tell("project is deleted", project=project_id)

    # Roles

    async def create_role(self, values: Mapping[str, Any]) -> Role:
        """Make a role. It allows nothing before a rule in the policy file names it."""
        async with self._writing() as session:
            await _check_entry(session, Role, None, values)
            role = Role(id=uuid.uuid4().hex, **values)
            session.add(role)
        _tell("role is created", role=role.id, name=role.name)
        return role

    async def change_role(self, role_id: str, values: Mapping[str, Any]) -> Role:
        """Rename or describe a role."""
        async with self._writing() as session:
            role = await _find(session, Role, role_id, locked=True)
            if values.get("name", role.name) != role.name:
                _check_not_built_in(role)
            await _check_entry(session, Role, role, values)
            _assign(role, values)
        _tell("role is changed", role=role_id, changed=sorted(values))
        return role

    async def delete_role(self, role_id: str) -> None:
        """Delete a role, and take it from everybody."""
        async with self._context.database.write() as session:
            role = await _find(session, Role, role_id, locked=True)
            _check_not_built_in(role)
            await session.delete(role)
            await session.flush()
            await directory.revoke_tokens_without_a_role(session)
        _tell("role is deleted", role=role_id)

    # Who has which role where

    async def assignments(self, **equal: str | None) -> Sequence[Assignment]:
        """Return who has which role where, narrowed by user_id, project_id, domain_id and role_id."""
        narrowed = {column: value for column, value in equal.items() if value is not None}
        async with self._context.database.read() as session:
            return await directory.assignments(session, narrowed)

    async def roles_on(self, target: Target, user_id: str) -> list[Role]:
        """Return the roles that a user has on a project or domain."""
        async with self._context.database.read() as session:
            await _check_grant(session, target, user_id)
            found = await directory.assignments(session, {**target.columns(), "user_id": user_id})
        return [assignment.role for assignment in found]

    async def grant(self, target: Target, user_id: str, role_id: str) -> None:
        """Give a user a role. Harmless when that is so already."""
        async with self._writing() as session:
            await _check_grant(session, target, user_id, role_id, locked=True)
            values = {**target.columns(), "user_id": user_id, "role_id": role_id}
            if not await directory.assignments(session, values):
                session.add(Assignment(id=str(uuid.uuid4()), **values))
        _tell("role is given", **values)

    async def revoke(self, target: Target, user_id: str, role_id: str) -> None:
        """Take a role from a user; with the last one on something the tokens for that end."""
        async with self._context.database.write() as session:
            await _check_grant(session, target, user_id, role_id, locked=True)
            values = {**target.columns(), "user_id": user_id, "role_id": role_id}
            found = await directory.assignments(session, values)
            if not found:
                raise missing("assignment of the role", role_id)
            for assignment in found:
                await session.delete(assignment)
            await session.flush()
            await directory.revoke_tokens_without_a_role(session)
        _tell("role is taken", **values)

    async def has(self, target: Target, user_id: str, role_id: str) -> None:
        """Refuse (404) unless a user has a role."""
        roles = await self.roles_on(target, user_id)
        if not any(role.id == role_id for role in roles):
            raise missing("assignment of the role", role_id)


def _tell(event: str, **values: Any) -> None:
    actor = current_actor.get()
    # structlog takes the event under a name of its own, so an object's name has another one.
    values = {("named" if key == "name" else key): value for key, value in values.items()}
    _log.info(event, actor=actor.name, actor_id=actor.user_id, **values)


async def _find(session: AsyncSession, model: type[Entry], entry_id: str, *, locked: bool = False) -> Entry:
    found = await directory.find(session, model, entry_id, locked=locked)
    if found is None:
        raise missing(_KINDS[model], entry_id)
    return found


def _assign(entry: Base, values: Mapping[str, Any]) -> None:
    for column, value in values.items():
        setattr(entry, column, value)


async def _check_entry(
    session: AsyncSession, model: type[Entry], entry: Entry | None, values: Mapping[str, Any]
) -> None:
    """Refuse values that cannot be stored, and a name that another one has. `entry` is what is changed, if any."""
    name = values.get("name", entry.name if entry is not None else None)
    if check_name(name) is None or not name.strip():
        raise bad_request("The name is empty; give one.", "EVS.1003")
    check_description(values.get("description"))
    check_name(values.get("email"))
    domain_id = None
    if model is not Role:
        present = getattr(entry, "domain_id", None)
        domain_id = values.get("domain_id", present)
        if entry is not None and domain_id != present:
            raise bad_request(f"The domain of a {_KINDS[model]} cannot be changed; leave domain_id out.")
        await _find(session, Domain, str(domain_id))
    if values.get("default_project_id") is not None:
        await _find(session, Project, values["default_project_id"])
    other = await directory.named(session, model, name, domain_id)
    if other is not None and (entry is None or other.id != entry.id):
        raise conflict(f"There is a {_KINDS[model]} with the name {name!r} already, {other.id}. Choose another name.")


async def _check_grant(
    session: AsyncSession, target: Target, user_id: str, role_id: str | None = None, *, locked: bool = False
) -> None:
    await _find(session, User, user_id, locked=locked)
    if target.project_id is not None:
        await _find(session, Project, target.project_id)
    if target.domain_id is not None:
        await _find(session, Domain, target.domain_id)
    if role_id is not None:
        await _find(session, Role, role_id)


def _check_not_built_in(role: Role) -> None:
    if role.name in BUILT_IN_ROLES:
        raise RequestRefused(403, "EVS.5403", f"The role {role.name!r} is built in: the rules are made of it.")
