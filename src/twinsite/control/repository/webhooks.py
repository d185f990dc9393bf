"""Webhooks, and what is to be sent to them."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.models import Webhook, WebhookDelivery
from twinsite.control.repository.listing import UnknownMarker

PENDING, DELIVERED, GIVEN_UP = "pending", "delivered", "given_up"
"""States of a delivery."""


async def of_project(session: AsyncSession, project_id: str) -> Sequence[Webhook]:
    """Return a project's webhooks, the newest first."""
    statement = select(Webhook).where(Webhook.project_id == project_id)
    return (await session.scalars(statement.order_by(Webhook.created_at.desc(), Webhook.id.desc()))).all()


async def of_projects(session: AsyncSession, project_ids: Collection[str]) -> Sequence[Webhook]:
    """Return the webhooks of several projects."""
    return (await session.scalars(select(Webhook).where(Webhook.project_id.in_(project_ids)))).all()


async def count(session: AsyncSession, project_id: str) -> int:
    """Return how many webhooks a project has."""
    return int((await session.scalars(select(func.count()).where(Webhook.project_id == project_id))).one())


async def find(session: AsyncSession, project_id: str, webhook_id: str) -> Webhook | None:
    """Return a project's webhook, or None."""
    statement = select(Webhook).where(Webhook.id == webhook_id, Webhook.project_id == project_id)
    return (await session.scalars(statement)).one_or_none()


async def remove(session: AsyncSession, project_id: str, webhook_id: str) -> bool:
    """Delete a project's webhook with all that is to be sent to it; say whether there was one."""
    statement = delete(Webhook).where(Webhook.id == webhook_id, Webhook.project_id == project_id)
    return (await session.scalars(statement.returning(Webhook.id))).one_or_none() is not None


async def due(
    session: AsyncSession, now: datetime.datetime, limit: int, *, but_of: Collection[str] = ()
) -> list[tuple[WebhookDelivery, Webhook]]:
    """Return what is to be sent now, the longest due first; nothing of the projects in `but_of`."""
    statement = (
        select(WebhookDelivery, Webhook)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(WebhookDelivery.state == PENDING, WebhookDelivery.due_at <= now)
        .where(Webhook.project_id.not_in(but_of))
        .order_by(WebhookDelivery.due_at, WebhookDelivery.number)
        .limit(limit)
    )
    return [(delivery, webhook) for delivery, webhook in await session.execute(statement)]


async def next_due_at(session: AsyncSession) -> datetime.datetime | None:
    """Return when something is to be sent next, or None when nothing waits."""
    statement = select(func.min(WebhookDelivery.due_at)).where(WebhookDelivery.state == PENDING)
    return (await session.scalars(statement)).one_or_none()


async def claim(session: AsyncSession, delivery_id: str, attempts: int, until: datetime.datetime) -> bool:
    """Claim a delivery for one attempt if nobody else did since `attempts` was read; it is due again at `until`."""
    return await _change(session, delivery_id, attempts, {"attempts": attempts + 1, "due_at": until})


async def conclude(session: AsyncSession, delivery_id: str, attempts: int, values: dict[str, Any]) -> bool:
    """Record how the attempt of this number ended, unless another sender has taken the delivery over since."""
    return await _change(session, delivery_id, attempts, values)


async def record_trial(session: AsyncSession, delivery_id: str, values: dict[str, Any]) -> None:
    """Record how a test ended, unless its webhook is gone."""
    statement = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id).values(values)
    await session.execute(statement, execution_options={"synchronize_session": False})


async def _change(session: AsyncSession, delivery_id: str, attempts: int, values: dict[str, Any]) -> bool:
    statement = (
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id == delivery_id,
            WebhookDelivery.state == PENDING,
            WebhookDelivery.attempts == attempts,
        )
        .values(values)
    )
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


async def page(
    session: AsyncSession, webhook_id: str, state: str | None, marker: str | None, limit: int, offset: int
) -> Sequence[WebhookDelivery]:
    """Return a webhook's deliveries, the newest first; `UnknownMarker` for a marker that is none of them."""
    statement = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if marker is not None:
        found = (await session.scalars(statement.where(WebhookDelivery.id == marker))).one_or_none()
        if found is None:
            raise UnknownMarker(marker)
        statement = statement.where(WebhookDelivery.number < found.number)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    return (await session.scalars(statement.order_by(WebhookDelivery.number.desc()).offset(offset).limit(limit))).all()


async def pending_count(session: AsyncSession, webhook_id: str) -> int:
    """Return how many deliveries of a webhook wait."""
    statement = select(func.count()).where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state == PENDING)
    return int((await session.scalars(statement)).one())


async def forget_finished(session: AsyncSession, webhook_id: str, keep: int) -> None:
    """Delete all but the newest finished deliveries of a webhook."""
    finished = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state != PENDING)
    place = select(WebhookDelivery.number).where(*finished).order_by(WebhookDelivery.number.desc())
    number = (await session.scalars(place.offset(keep).limit(1))).one_or_none()
    if number is not None:
        await session.execute(delete(WebhookDelivery).where(*finished, WebhookDelivery.number <= number))
