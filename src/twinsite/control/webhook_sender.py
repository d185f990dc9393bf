"""Sends what is queued for webhooks, at least once: a delivery is over only when its receiver has said 2xx, or when it
was tried for about a day.

Several controllers share the queue. An attempt is claimed by a compare-and-swap that also makes the delivery due again
after `CLAIM_SECONDS`, so what a controller was sending when it died is sent by another one.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import json
import math
import ssl
import time
from collections import Counter
from typing import Any

import httpx
import structlog

import twinsite
from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.webhooks import find_webhook, new_delivery, trial_content
from twinsite.control.models import Webhook, WebhookDelivery
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository import webhooks
from twinsite.control.webhook_targets import TargetRefused, parse_target, resolve

ATTEMPTS_MAX = 30
"""After as many attempts a delivery is given up: about a day."""
RETRY_SECONDS_MIN = 5.0
RETRY_FACTOR = 3.0
RETRY_SECONDS_MAX = 3600.0
"""Pause before the next attempt; grows by the factor between these."""
SEND_SECONDS_MAX = 15.0
"""Longest time for one attempt, from the look-up of the name to the status of the answer."""
CLAIM_SECONDS = 60.0
"""How long an attempt that was claimed is left alone."""
SENDS_AT_ONCE_MAX = 8
"""Attempts of one controller at the same time."""
SENDS_OF_PROJECT_MAX = 2
"""Of them of one project, so that receivers of one that do not answer hold up nobody else's."""
TESTS_OF_PROJECT_MAX = 2
"""Tests of one project at the same time; who wants more is told to wait."""
TROUBLE_CHARACTERS_MAX = 255
LOOK_SECONDS = 3600.0
"""Longest sleep of the sender; it looks by itself far more often."""

SIGNATURE_HEADER = "X-Twinsite-Signature"
TIMESTAMP_HEADER = "X-Twinsite-Timestamp"
DELIVERY_HEADER = "X-Twinsite-Delivery"
KINDS_HEADER = "X-Twinsite-Event-Kinds"

assert SEND_SECONDS_MAX < CLAIM_SECONDS

_log = structlog.get_logger(__name__)


class WebhookSender:
    """Sends for ever. `run`, and `close` at the end."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's queue."""
        self._context = context
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._sends: Counter[str] = Counter()
        """By project, what is being sent."""
        self._tests: Counter[str] = Counter()
        self._http: httpx.AsyncClient | None = None

    async def run(self) -> None:
        """Send whatever is due. What is being sent when this is cancelled is sent again."""
        wakeups = self._context.wakeups
        try:
            while not wakeups.closed:
                try:
                    await wakeups.until(self._look, LOOK_SECONDS)
                    await self.send_due()
                except Exception:
                    # A database that restarts refuses connections with an error of the system's or of its driver's own.
                    _log.exception("webhooks cannot be looked after; the next attempt comes soon")
                    await asyncio.sleep(self._context.settings.poll_seconds)
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _look(self) -> bool | None:
        if len(self._sending) >= SENDS_AT_ONCE_MAX:
            return None
        async with self._context.database.read() as session:
            found = await webhooks.due(session, utc_now(), SENDS_AT_ONCE_MAX + 1, but_of=self._busy())
        return True if any(delivery.id not in self._sending for delivery, _ in found) else None

    async def send_due(self) -> None:
        """Begin to send what is due, as far as there is room."""
        has_begun = True
        while has_begun and len(self._sending) < SENDS_AT_ONCE_MAX:
            async with self._context.database.read() as session:
                found = await webhooks.due(session, utc_now(), 2 * SENDS_AT_ONCE_MAX, but_of=self._busy())
            has_begun = False
            for delivery, webhook in found:
                has_room = len(self._sending) < SENDS_AT_ONCE_MAX and webhook.project_id not in self._busy()
                if has_room and delivery.id not in self._sending:
                    self._sends[webhook.project_id] += 1
                    task = asyncio.create_task(self._send_in_background(delivery, webhook), name="webhook")
                    self._sending[delivery.id] = task
                    has_begun = True

    def _busy(self) -> list[str]:
        """Return the projects of which no more is sent at once."""
        return [project_id for project_id, count in self._sends.items() if count >= SENDS_OF_PROJECT_MAX]

    async def _send_in_background(self, delivery: WebhookDelivery, webhook: Webhook) -> None:
        try:
            await self.attempt(delivery, webhook)
        except Exception:
            _log.exception("the outcome of a delivery cannot be stored; it is sent again", delivery=delivery.id)
        finally:
            del self._sending[delivery.id]
            _count_down(self._sends, webhook.project_id)
            await self._context.wakeups.notify()

    async def attempt(self, delivery: WebhookDelivery, webhook: Webhook) -> None:
        """Claim one attempt, make it, and record how it ended; nothing when another controller has claimed it."""
        until = utc_now() + datetime.timedelta(seconds=CLAIM_SECONDS)
        async with self._context.database.write() as session:
            if not await webhooks.claim(session, delivery.id, delivery.attempts, until):
                return
        number = delivery.attempts + 1
        status, trouble = await self._post(delivery, webhook)
        values = _outcome(number, status, trouble)
        async with self._context.database.write() as session:
            await webhooks.conclude(session, delivery.id, number, values)
        if values["state"] == webhooks.GIVEN_UP:
            _log.warning("a webhook's delivery is given up", webhook=webhook.id, delivery=delivery.id, trouble=trouble)

    async def test(self, project_id: str, webhook_id: str) -> WebhookDelivery:
        """Send a test, once and now; return it with its outcome. `RequestRefused` (404) for a webhook that is none.

        Or 413 for one test too many at the same time.
        """
        if self._tests[project_id] >= TESTS_OF_PROJECT_MAX:
            raise RequestRefused(
                413,
                "EVS.5413",
                f"{TESTS_OF_PROJECT_MAX} tests of the project's webhooks are under way. Wait for their answers.",
                retry_after_seconds=math.ceil(SEND_SECONDS_MAX),
            )
        self._tests[project_id] += 1
        try:
            return await self._test(project_id, webhook_id)
        finally:
            _count_down(self._tests, project_id)

    async def _test(self, project_id: str, webhook_id: str) -> WebhookDelivery:
        async with self._context.database.write() as session:
            webhook = await find_webhook(session, project_id, webhook_id)
            delivery = new_delivery(webhook, trial_content())
            delivery.attempts = ATTEMPTS_MAX
            # Nobody else may send it; and when this controller dies, it is over.
            delivery.state, delivery.finished_at = webhooks.GIVEN_UP, utc_now()
            delivery.trouble = "the controller ended before the test did"
            session.add(delivery)
        delivery.attempts = 1
        status, trouble = await self._post(delivery, webhook)
        delivery.state = webhooks.DELIVERED if trouble is None else webhooks.GIVEN_UP
        delivery.answer_status, delivery.trouble, delivery.finished_at = status, trouble, utc_now()
        names = ("state", "attempts", "answer_status", "trouble", "finished_at")
        async with self._context.database.write() as session:
            await webhooks.record_trial(session, delivery.id, {name: getattr(delivery, name) for name in names})
        return delivery

    async def _post(self, delivery: WebhookDelivery, webhook: Webhook) -> tuple[int | None, str | None]:
        """Send a delivery; return the status of the answer, and why that is no success."""
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                status = await self._exchange(delivery, webhook)
        except TimeoutError:
            return None, f"no answer within {SEND_SECONDS_MAX:g} s"
        except (TargetRefused, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            return None, (str(error) or type(error).__name__)[:TROUBLE_CHARACTERS_MAX]
        return status, None if 200 <= status < 300 else f"the receiver answered {status}"

    async def _exchange(self, delivery: WebhookDelivery, webhook: Webhook) -> int:
        target = parse_target(webhook.url)
        address = await resolve(target, self._context.settings.webhook_allowed_hosts)
        url = httpx.URL(webhook.url)
        body = json.dumps(delivery.content, separators=(",", ":")).encode()
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": f"twinsite/{twinsite.__version__}",
            KINDS_HEADER: ",".join(delivery.content["kinds"]),
            DELIVERY_HEADER: delivery.id,
            **sign(webhook.secret, body, int(time.time())),
        }
        request = self._client().build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers=headers,
            extensions={"sni_hostname": target.host},
        )
        # Only the status is looked at: what else a receiver says is no concern of ours, however long it is.
        answer = await self._client().send(request, stream=True)
        await answer.aclose()
        return answer.status_code

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            ca_file = self._context.settings.webhook_ca_file
            trusted = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
            # No proxy of the environment, which would look names up by itself; and no redirect leads elsewhere.
            # Connections are not kept: their addresses are checked each time. How many there are is bounded by who is
            # sending, not here, where tests of some would make deliveries of others wait.
            self._http = httpx.AsyncClient(
                verify=trusted,
                trust_env=False,
                follow_redirects=False,
                timeout=SEND_SECONDS_MAX,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        return self._http


def _count_down(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def sign(secret: str, body: bytes, timestamp: int) -> dict[str, str]:
    """Return the headers that prove who sent a body and when: HMAC-SHA256 over "<timestamp>.<body>", in hexadecimal."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: f"v1={digest}"}


def retry_seconds(attempts: int) -> float:
    """Return the pause after as many attempts that failed."""
    return float(min(RETRY_SECONDS_MIN * RETRY_FACTOR ** min(attempts - 1, 16), RETRY_SECONDS_MAX))


def _outcome(number: int, status: int | None, trouble: str | None) -> dict[str, Any]:
    """Return what is recorded of the attempt of this number."""
    now = utc_now()
    values: dict[str, Any] = {"answer_status": status, "trouble": trouble}
    if trouble is None:
        return {**values, "state": webhooks.DELIVERED, "finished_at": now}
    if number >= ATTEMPTS_MAX or status == httpx.codes.GONE:
        return {**values, "state": webhooks.GIVEN_UP, "finished_at": now}
    due_at = now + datetime.timedelta(seconds=retry_seconds(number))
    return {**values, "state": webhooks.PENDING, "due_at": due_at}
