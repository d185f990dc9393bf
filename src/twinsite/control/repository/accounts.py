"""What a log-in needs to know of domains, projects, users, roles and tokens; what administrators do: `directory`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import Assignment, Domain, Project, Role, Token, User


async def find_domain(session: AsyncSession, *, domain_id: str | None = None, name: str | None = None) -> Domain | None:
    """Return a domain by id or by name."""
    statement = select(Domain).where(Domain.id == domain_id if domain_id is not None else Domain.name == name)
    return (await session.scalars(statement)).one_or_none()


async def find_project(
    session: AsyncSession, *, project_id: str | None = None, name: str | None = None, domain: Domain | None = None
) -> Project | None:
    """Return a project by id, or by name within a domain."""
    if project_id is not None:
        return await session.get(Project, project_id)
    if domain is None:
        return None
    statement = select(Project).where(Project.name == name, Project.domain_id == domain.id)
    return (await session.scalars(statement)).one_or_none()


async def find_user(
    session: AsyncSession,
    *,
    user_id: str | None = None,
    name: str | None = None,
    domain: Domain | None = None,
    locked: bool = False,
) -> User | None:
    """Return a user by id, or by name within a domain; `locked` until the end of the transaction."""
    if user_id is not None:
        return await session.get(User, user_id, with_for_update={"of": User} if locked else None)
    if domain is None:
        return None
    statement = select(User).where(User.name == name, User.domain_id == domain.id)
    return (await session.scalars(statement)).one_or_none()


async def roles(
    session: AsyncSession, user_id: str, *, project_id: str | None = None, domain_id: str | None = None
) -> list[str]:
    """Return the names of a user's roles on a project or on a domain."""
    target = Assignment.project_id == project_id if project_id is not None else Assignment.domain_id == domain_id
    statement = select(Role.name).join(Assignment).where(Assignment.user_id == user_id, target).order_by(Role.name)
    return list((await session.scalars(statement)).all())


async def projects_of_user(session: AsyncSession, user_id: str) -> Sequence[Project]:
    """Return the projects that a user has a role on."""
    granted = select(Assignment.project_id).where(Assignment.user_id == user_id, Assignment.project_id.is_not(None))
    statement = select(Project).where(Project.id.in_(granted)).order_by(Project.name, Project.id)
    return (await session.scalars(statement)).all()


async def domains_of_user(session: AsyncSession, user_id: str) -> Sequence[Domain]:
    """Return the domains that a user has a role on."""
    granted = select(Assignment.domain_id).where(Assignment.user_id == user_id, Assignment.domain_id.is_not(None))
    return (await session.scalars(select(Domain).where(Domain.id.in_(granted)).order_by(Domain.name))).all()


async def find_token(session: AsyncSession, digest: str, now: datetime.datetime) -> Token | None:
    """Return a token that has not expired, by the SHA-256 of its text."""
    statement = select(Token).where(Token.digest == digest, Token.expires_at > now)
    return (await session.scalars(statement)).one_or_none()


async def delete_token(session: AsyncSession, digest: str) -> None:
    """Revoke a token."""
    await session.execute(delete(Token).where(Token.digest == digest))


async def delete_expired_tokens(session: AsyncSession, now: datetime.datetime) -> None:
    """Forget the tokens whose time is over."""
    await session.execute(delete(Token).where(Token.expires_at <= now))
