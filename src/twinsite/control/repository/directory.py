"""Users, projects, domains, roles and who has which of them where, as administrators list and change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import Assignment, Domain, Group, Pair, Project, Role, Token, User, Volume

Entry = TypeVar("Entry", User, Project, Domain, Role)


async def find(session: AsyncSession, model: type[Entry], entry_id: str, *, locked: bool = False) -> Entry | None:
    """Return a user, project, domain or role by its id."""
    return await session.get(model, entry_id, with_for_update={"of": model} if locked else None)


async def listed(session: AsyncSession, model: type[Entry], equal: Mapping[str, Any]) -> Sequence[Entry]:
    """Return those whose columns have these values, in the order of their names."""
    statement = select(model).order_by(model.name, model.id)
    for column, value in equal.items():
        statement = statement.where(getattr(model, column) == value)
    return (await session.scalars(statement)).all()


async def named(session: AsyncSession, model: type[Entry], name: str, domain_id: str | None) -> Entry | None:
    """Return the one with this name; users and projects have theirs within a domain."""
    equal = {"name": name} if domain_id is None else {"name": name, "domain_id": domain_id}
    found = await listed(session, model, equal)
    return found[0] if found else None


async def assignments(session: AsyncSession, equal: Mapping[str, str]) -> Sequence[Assignment]:
    """Return who has which role where, narrowed by user_id, project_id, domain_id and role_id."""
    statement = select(Assignment).order_by(Assignment.user_id, Assignment.project_id, Assignment.id)
    for column, value in equal.items():
        statement = statement.where(getattr(Assignment, column) == value)
    return (await session.scalars(statement)).all()


async def revoke_tokens(
    session: AsyncSession, *, user_id: str | None = None, project_id: str | None = None, domain_id: str | None = None
) -> None:
    """Delete the tokens of a user, for a project, for a domain, or of all of these that are given."""
    conditions = [
        column == value
        for column, value in (
            (Token.user_id, user_id),
            (Token.project_id, project_id),
            (Token.domain_id, domain_id),
        )
        if value is not None
    ]
    assert conditions, "all tokens are revoked by nobody"
    await session.execute(delete(Token).where(*conditions))


async def revoke_tokens_without_a_role(session: AsyncSession) -> None:
    """Delete the tokens whose user has no role any more on what they are for."""
    for token_target, target in (
        (Token.project_id, Assignment.project_id),
        (Token.domain_id, Assignment.domain_id),
    ):
        has_role = select(Assignment.id).where(Assignment.user_id == Token.user_id, target == token_target).exists()
        await session.execute(delete(Token).where(token_target.is_not(None), ~has_role))


async def things_of(session: AsyncSession, project_id: str) -> int:
    """Return how many volumes, pairs and groups a project has."""
    counts = [
        (await session.scalars(select(func.count()).where(model.project_id == project_id))).one()
        for model in (Volume, Pair, Group)
    ]
    return sum(counts)
