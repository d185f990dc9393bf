"""The calls on webhooks, and on the events of all of a project's groups."""

from __future__ import annotations

from collections.abc import Sequence

from twinsite.client.models import Delivery, FeedEvent, Webhook
from twinsite.client.session import Session, exchange, fetch, fetch_list
from twinsite.client.steps import Plan
from twinsite.client.volumes import given

WEBHOOKS = "os-vendor-webhooks"
TEST_ACTION = "os-test-webhook"


def list_events(session: Session, limit: int = 1000) -> Plan[list[FeedEvent]]:
    """Return the newest events of all of the project's groups, at most `limit` (1000)."""
    return (yield from fetch_list(session, FeedEvent, "events", "os-vendor-events", {"limit": limit}))


def list_webhooks(session: Session) -> Plan[list[Webhook]]:
    """Return the project's webhooks, the newest first."""
    return (yield from fetch_list(session, Webhook, "webhooks", WEBHOOKS))


def webhooks_named(session: Session, name: str | None) -> Plan[list[Webhook]]:
    """Return the webhooks of this name, all of them for None."""
    found = yield from list_webhooks(session)
    return [webhook for webhook in found if name is None or webhook.name == name]


def show_webhook(session: Session, webhook_id: str) -> Plan[Webhook]:
    """Return one webhook."""
    return (yield from fetch(session, Webhook, "webhook", "GET", f"{WEBHOOKS}/{webhook_id}"))


def create_webhook(
    session: Session, *, url: str, secret: str, name: str | None = None, kinds: Sequence[str] = ()
) -> Plan[Webhook]:
    """Have the project's events sent to `url`, those of one of `kinds` or all, signed with `secret`."""
    fields = {"url": url, "secret": secret, "kinds": list(kinds), **given(name=name)}
    return (yield from fetch(session, Webhook, "webhook", "POST", WEBHOOKS, {"webhook": fields}))


def delete_webhook(session: Session, webhook_id: str) -> Plan[None]:
    """Delete a webhook, and what waits to be sent to it."""
    yield from exchange(session, "DELETE", f"{WEBHOOKS}/{webhook_id}")


def test_webhook(session: Session, webhook_id: str) -> Plan[Delivery]:
    """Send a test to a webhook, once and at once; return what became of it."""
    body = {TEST_ACTION: None}
    return (yield from fetch(session, Delivery, "delivery", "POST", f"{WEBHOOKS}/{webhook_id}/action", body))


def list_deliveries(
    session: Session, webhook_id: str, *, state: str | None = None, limit: int = 1000
) -> Plan[list[Delivery]]:
    """Return what was sent to a webhook, waits ("pending"), or was "given_up"; the newest first."""
    query = {"limit": limit, **given(state=state)}
    return (yield from fetch_list(session, Delivery, "deliveries", f"{WEBHOOKS}/{webhook_id}/deliveries", query))
