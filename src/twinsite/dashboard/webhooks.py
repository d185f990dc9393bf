"""Where the project's events are sent: making, trying and ending webhooks, and what became of what was sent."""

from __future__ import annotations

import secrets

from fastapi import Request

from twinsite.client.models import Delivery, Webhook
from twinsite.dashboard.dialogs import Dialog, Field
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Rows, box, button, table, text
from twinsite.dashboard.words import NOTHING, Tone, moment

SECRET_BYTES = 32
DELIVERIES_SHOWN = 20
_COLUMNS = ("Name", "Address", "Kinds", "Created", "Action")
_DELIVERY_COLUMNS = ("When", "Kinds", "State", "Attempts", "Next attempt", "Answer", "Trouble")
_STATES = {"delivered": Tone.OK, "pending": Tone.NOTICE, "given_up": Tone.CRITICAL}


def _called(webhook: Webhook) -> str:
    return webhook.name or webhook.url


class _WebhookRow:
    def __init__(self, page: _WebhooksPage, webhook: Webhook) -> None:
        self.root = box("tr")
        called = _called(webhook)
        with self.root:
            text("th", webhook.name or NOTHING, scope="row")
            text("td", webhook.url, data_label="Address")
            text("td", ", ".join(webhook.kinds) or "all", data_label="Kinds")
            text("td", moment(webhook.created_at), data_label="Created")
            with box("td"), box("div", "buttons"):
                button("Try", lambda: page.try_it(webhook), "quiet small", aria_label=f"Try {called}")
                button("What was sent", lambda: page.show(webhook), "quiet small", aria_label=f"Sent to {called}")
                button("Delete", lambda: page.delete(webhook), "quiet small", aria_label=f"Delete {called}")

    def update(self, webhook: Webhook) -> None:
        """Nothing changes a webhook."""


class _DeliveryRow:
    def __init__(self, delivery: Delivery) -> None:
        self.root = box("tr")
        with self.root:
            text("th", moment(delivery.created_at), scope="row")
            text("td", ", ".join(delivery.kinds) or NOTHING, data_label="Kinds")
            with box("td", data_label="State"):
                self._state = Chip()
            self._attempts = text("td", data_label="Attempts")
            self._due = text("td", data_label="Next attempt")
            self._answer = text("td", data_label="Answer")
            self._trouble = text("td", data_label="Trouble")

    def update(self, delivery: Delivery) -> None:
        self._state.update(_STATES.get(delivery.state, Tone.WARNING), delivery.state.replace("_", " "))
        self._attempts.text = str(delivery.attempts)
        self._due.text = moment(delivery.due_at)
        self._answer.text = NOTHING if delivery.answer_status is None else str(delivery.answer_status)
        self._trouble.text = delivery.trouble or NOTHING


class _WebhooksPage:
    """What the page knows: the webhooks, and the one whose deliveries are shown."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._shown: Webhook | None = None
        with box("div", "row title"):
            text("h1", "Webhooks")
            button("Create a webhook", self._create, "primary")
        text("p", "Each event of the project's groups is sent to them, signed, and again until it has arrived.", "hint")
        self._rows = Rows(table(_COLUMNS), lambda hook: _WebhookRow(self, hook), "There are no webhooks yet.")
        self._sent = box("section", aria_labelledby="sent")
        with self._sent:
            self._heading = text("h2", "", id="sent")
            self._deliveries = Rows(table(_DELIVERY_COLUMNS), _DeliveryRow, "Nothing was sent yet.")
        self._sent.visible = False

    async def refresh(self) -> None:
        """Read everything anew."""
        client = self._frame.client
        found = {hook.id: hook for hook in await client.webhooks()}
        self._rows.update(found)
        if self._shown is not None and self._shown.id not in found:
            self._shown = None
        self._sent.visible = self._shown is not None
        if self._shown is not None:
            self._heading.text = f"What was sent to {_called(self._shown)}"
            sent = await client.webhook_deliveries(self._shown.id, limit=DELIVERIES_SHOWN)
            self._deliveries.update({delivery.id: delivery for delivery in sent})

    async def again(self) -> None:
        """Read everything anew after a change."""
        await self._frame.attempt(self.refresh)

    async def show(self, webhook: Webhook) -> None:
        """Show what was sent to one."""
        self._shown = webhook
        await self.again()

    async def try_it(self, webhook: Webhook) -> None:
        """Send a test, once and at once, and say what became of it."""
        outcome: list[Delivery] = []

        async def send() -> None:
            outcome.append(await self._frame.client.test_webhook(webhook.id))

        trouble = await self._frame.act(send)
        if trouble is None and outcome[0].state != "delivered":
            trouble = f"The test did not arrive: {outcome[0].trouble or 'nobody says why'}"
        if trouble is None:
            self._frame.say(f"The test arrived at {_called(webhook)}.")
        else:
            self._frame.say(trouble, Tone.CRITICAL)
        await self.show(webhook)

    def delete(self, webhook: Webhook) -> None:
        """End one."""
        dialog = Dialog(self._frame, f"Delete {_called(webhook)}", "Delete webhook", is_dangerous=True)
        with dialog.body:
            text("p", "Nothing more is sent there, and what waits to be sent is dropped.", "loss")
        dialog.open(lambda: self._frame.client.delete_webhook(webhook.id), "The webhook is deleted.", self.again)

    def _create(self) -> None:
        dialog = Dialog(self._frame, "Create a webhook", "Create webhook")
        with dialog.body:
            name = Field("hook-name", "Name", maxlength="255")
            url = Field("hook-url", "Address", hint="Where to: https://…", inputmode="url")
            kinds = Field(
                "hook-kinds", "Kinds of events", hint="Divided by spaces, hold_began for example; all without."
            )
            secret = Field(
                "hook-secret",
                "Secret",
                secrets.token_hex(SECRET_BYTES),
                "What is sent is signed with it. Copy it to the receiver now: it is not shown again.",
                autocomplete="off",
            )

        async def create() -> None:
            await self._frame.client.create_webhook(
                url=url.value.strip(),
                secret=secret.value,
                name=name.value or None,
                kinds=kinds.value.replace(",", " ").split(),
            )

        dialog.open(create, "Events are sent there from now on.", self.again)


async def webhooks_page(request: Request) -> None:
    """Build the page."""
    frame = Frame(request, "Webhooks", "/")
    with frame.content():
        page = _WebhooksPage(frame)
    await frame.keep_live(page.refresh)
