"""Webhooks of a project: where its events are sent, and what became of each."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.event_kinds import KINDS, TEST
from twinsite.control.lifecycle.event_views import ShownEvent, feed_event_view
from twinsite.control.lifecycle.proof import timestamp
from twinsite.control.models import Webhook, WebhookDelivery
from twinsite.control.refusals import bad_request, not_found, quota_exceeded
from twinsite.control.repository import webhooks
from twinsite.control.texts import check_name
from twinsite.control.webhook_targets import Target, TargetRefused, parse_target, refuse_address

WEBHOOKS_MAX = 20
"""Most webhooks of one project."""
SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 255
PENDING_MAX = 5_000
"""Most deliveries of one webhook that wait; what comes on top of them is given up at once, visibly."""
FINISHED_MAX = 500
"""Most finished deliveries of one webhook that are kept to look at."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What a client wants."""

    url: str
    secret: str = field(repr=False)
    name: str | None = None
    kinds: Sequence[str] = ()


class WebhookService:
    """The calls on webhooks. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def create(self, project_id: str, wanted: NewWebhook) -> Webhook:
        """Record a webhook. It gets the events that are published from now on."""
        check_secret(wanted.secret)
        unknown = sorted(set(wanted.kinds) - KINDS)
        if unknown:
            raise bad_request(f"There is no kind of event {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}.")
        self.check_url(wanted.url)
        webhook = Webhook(
            id=str(uuid.uuid4()),
            project_id=project_id,
            name=check_name(wanted.name),
            url=wanted.url,
            secret=wanted.secret,
            kinds=sorted(set(wanted.kinds)),
            created_at=utc_now(),
        )
        async with self._context.database.write() as session:
            if await webhooks.count(session, project_id) >= WEBHOOKS_MAX:
                raise quota_exceeded(f"The project has {WEBHOOKS_MAX} webhooks, which is the most. Delete one first.")
            session.add(webhook)
        return webhook

    def check_url(self, url: str) -> Target:
        """Return where a URL leads; refuse (400) one that may not be sent to. Names are looked up only when sending."""
        try:
            target = parse_target(url)
            if target.address is not None:
                refuse_address(target, target.address, self._context.settings.webhook_allowed_hosts)
        except TargetRefused as error:
            raise bad_request(f"url: {error}") from None
        return target

    async def list_all(self, project_id: str) -> Sequence[Webhook]:
        """Return a project's webhooks, the newest first."""
        async with self._context.database.read() as session:
            return await webhooks.of_project(session, project_id)

    async def show(self, project_id: str, webhook_id: str) -> Webhook:
        """Return one webhook."""
        async with self._context.database.read() as session:
            return await find_webhook(session, project_id, webhook_id)

    async def delete(self, project_id: str, webhook_id: str) -> None:
        """Delete a webhook, and what waits to be sent to it."""
        async with self._context.database.write() as session:
            if not await webhooks.remove(session, project_id, webhook_id):
                raise not_found("webhook", webhook_id)

    async def deliveries(
        self, project_id: str, webhook_id: str, state: str | None, marker: str | None, limit: int, offset: int
    ) -> Sequence[WebhookDelivery]:
        """Return what was sent to a webhook, is to be, or was given up; the newest first."""
        async with self._context.database.read() as session:
            await find_webhook(session, project_id, webhook_id)
            return await webhooks.page(session, webhook_id, state, marker, limit, offset)


async def find_webhook(session: AsyncSession, project_id: str, webhook_id: str) -> Webhook:
    """Return a project's webhook; `RequestRefused` (404) when there is none."""
    webhook = await webhooks.find(session, project_id, webhook_id)
    if webhook is None:
        raise not_found("webhook", webhook_id)
    return webhook


def check_secret(secret: str) -> None:
    """Refuse (400) a secret that could be guessed, or that no header or file takes as it is."""
    if not SECRET_BYTES_MIN <= len(secret.encode()) <= SECRET_BYTES_MAX or not secret.isprintable():
        raise bad_request(
            f"secret: give {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes of printable text; "
            "'openssl rand -hex 32' makes one."
        )


def new_delivery(webhook: Webhook, content: dict[str, Any]) -> WebhookDelivery:
    """Return a delivery that is due at once. The content gets its ids."""
    delivery_id = str(uuid.uuid4())
    now = utc_now()
    ids = {"delivery_id": delivery_id, "webhook_id": webhook.id, "project_id": webhook.project_id}
    return WebhookDelivery(
        id=delivery_id,
        webhook_id=webhook.id,
        content={**ids, **content},
        state=webhooks.PENDING,
        attempts=0,
        due_at=now,
        created_at=now,
    )


def trial_content() -> dict[str, Any]:
    """Return what a test sends in the place of an event."""
    return {"kinds": [TEST], "event": None}


async def queue_events(session: AsyncSession, published: Collection[tuple[str, ShownEvent]]) -> None:
    """Queue events, each with its project, for the webhooks that want them."""
    found = await webhooks.of_projects(session, {project_id for project_id, _ in published}) if published else ()
    for webhook in found:
        wanted = frozenset(webhook.kinds)
        waiting = await webhooks.pending_count(session, webhook.id)
        for project_id, shown in published:
            if project_id != webhook.project_id or (wanted and not wanted & set(shown.kinds)):
                continue
            content = {"kinds": shown.kinds, "event": feed_event_view(shown)}
            delivery = new_delivery(webhook, content)
            if waiting >= PENDING_MAX:
                delivery.state, delivery.finished_at = webhooks.GIVEN_UP, utc_now()
                delivery.trouble = f"{PENDING_MAX} deliveries wait already"
            waiting += 1
            session.add(delivery)
        await session.flush()
        await webhooks.forget_finished(session, webhook.id, FINISHED_MAX)


def webhook_view(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook; its secret is nobody's to read."""
    return {
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "kinds": webhook.kinds,
        "created_at": timestamp(webhook.created_at),
    }


def delivery_view(delivery: WebhookDelivery) -> dict[str, Any]:
    """Return a delivery."""
    event = delivery.content.get("event")
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event_id": event["id"] if event is not None else None,
        "kinds": delivery.content["kinds"],
        "state": delivery.state,
        "attempts": delivery.attempts,
        "due_at": timestamp(delivery.due_at) if delivery.state == webhooks.PENDING else None,
        "created_at": timestamp(delivery.created_at),
        "finished_at": timestamp(delivery.finished_at),
        "answer_status": delivery.answer_status,
        "trouble": delivery.trouble,
    }
