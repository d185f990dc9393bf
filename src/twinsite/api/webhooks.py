"""Webhooks: where a project has its events sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from pydantic.config import JsonDict

from twinsite.api import answers, schemas
from twinsite.api.action_values import require_no_options, single_action
from twinsite.api.filters import check_choice
from twinsite.api.listing import PlaceQuery, place_query
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.control.lifecycle.event_kinds import KINDS
from twinsite.control.lifecycle.webhooks import (
    SECRET_BYTES_MAX,
    SECRET_BYTES_MIN,
    NewWebhook,
    delivery_view,
    webhook_view,
)
from twinsite.control.refusals import bad_request
from twinsite.control.repository.webhooks import DELIVERED, GIVEN_UP, PENDING
from twinsite.control.webhook_targets import URL_CHARACTERS_MAX

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-webhooks",
    tags=["Webhooks"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

TEST = "os-test-webhook"
_KINDS: JsonDict = {"items": {"type": "string", "enum": [*sorted(KINDS)]}}
ACTION_EXAMPLES = {"test": {"summary": "Send a test", "value": {TEST: None}}}
STATES = (PENDING, DELIVERED, GIVEN_UP)


class WebhookFields(schemas.Body):
    """A new webhook."""

    url: str = Field(
        examples=["https://hooks.example.com/twinsite"],
        json_schema_extra={"maxLength": URL_CHARACTERS_MAX, "format": "uri"},
        description="http or https, at a public address or at one of the settings' webhook_allowed_hosts.",
    )
    secret: str = Field(
        json_schema_extra={"minLength": SECRET_BYTES_MIN, "maxLength": SECRET_BYTES_MAX, "writeOnly": True},
        description="Signs what is sent, and is never shown. Printable text.",
    )
    name: schemas.Text = None
    kinds: list[str] | None = Field(
        None,
        max_length=len(KINDS),
        json_schema_extra=_KINDS,
        description="Only events of one of these kinds; of every kind when left out.",
    )


class WebhookCreate(schemas.Body):
    """Body of POST."""

    webhook: WebhookFields


class WebhookAnswer(answers.Answer):
    """A webhook, without its secret."""

    id: str
    name: str | None
    url: str
    kinds: list[str] = Field(description="Empty for every kind.")
    created_at: str


class WebhookOne(answers.Answer):
    """One webhook."""

    webhook: WebhookAnswer


class WebhookList(answers.Answer):
    """All of a project's webhooks, the newest first."""

    webhooks: list[WebhookAnswer]


class DeliveryAnswer(answers.Answer):
    """Something that is to be sent, was sent, or was given up."""

    id: str
    webhook_id: str
    event_id: str | None = Field(description="Null for a test.")
    kinds: list[str]
    state: str = Field(description="pending, delivered or given_up.")
    attempts: int
    due_at: str | None = Field(description="When it is tried next, while it is pending.")
    created_at: str
    finished_at: str | None
    answer_status: int | None = Field(description="What the receiver answered to the last attempt.")
    trouble: str | None = Field(description="Why the last attempt failed.")


class DeliveryOne(answers.Answer):
    """One delivery."""

    delivery: DeliveryAnswer


class DeliveryList(answers.Answer):
    """A page of a webhook's deliveries, the newest first."""

    deliveries: list[DeliveryAnswer]


@router.post("", status_code=202, responses={202: {"model": WebhookOne}, **answers.ERRORS})
async def create_webhook(request: Request, project_id: str, body: WebhookCreate) -> Response:
    """Have a project's events sent somewhere, signed, from now on."""
    fields = body.webhook
    wanted = NewWebhook(fields.url, fields.secret, fields.name, tuple(fields.kinds or ()))
    webhook = await controller_of(request).webhooks.create(project_id, wanted)
    return JSONResponse({"webhook": webhook_view(webhook)}, 202)


@router.get("", responses={200: {"model": WebhookList}, **answers.ERRORS})
async def list_webhooks(request: Request, project_id: str) -> Response:
    """List a project's webhooks."""
    found = await controller_of(request).webhooks.list_all(project_id)
    return JSONResponse({"webhooks": [webhook_view(webhook) for webhook in found]})


@router.get("/{webhook_id}", responses={200: {"model": WebhookOne}, **answers.ERRORS_OF_ONE})
async def show_webhook(request: Request, project_id: str, webhook_id: str) -> Response:
    """Show a webhook."""
    webhook = await controller_of(request).webhooks.show(project_id, webhook_id)
    return JSONResponse({"webhook": webhook_view(webhook)})


@router.delete("/{webhook_id}", status_code=202, responses=answers.ERRORS_OF_ONE)
async def delete_webhook(request: Request, project_id: str, webhook_id: str) -> Response:
    """Delete a webhook; nothing more is sent to it."""
    await controller_of(request).webhooks.delete(project_id, webhook_id)
    return Response(status_code=202)


@router.get("/{webhook_id}/deliveries", responses={200: {"model": DeliveryList}, **answers.ERRORS_OF_ONE})
async def list_deliveries(
    request: Request,
    project_id: str,
    webhook_id: str,
    place: Annotated[PlaceQuery, Depends(place_query)],
    state: Annotated[
        str | None,
        Query(description="Only those in this state.", json_schema_extra={"enum": [PENDING, DELIVERED, GIVEN_UP]}),
    ] = None,
) -> Response:
    """List what was sent to a webhook, is to be sent, or was given up."""
    if state is not None:
        check_choice("state", state, STATES)
    found = await controller_of(request).webhooks.deliveries(
        project_id, webhook_id, state, place.marker, place.limit, place.offset
    )
    return JSONResponse({"deliveries": [delivery_view(delivery) for delivery in found]})


@router.post(
    "/{webhook_id}/action",
    responses={200: {"model": DeliveryOne}, **answers.ERRORS_OF_CHANGE},
)
async def act_on_webhook(
    request: Request,
    project_id: str,
    webhook_id: str,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Send a test to a webhook, once and at once; the answer says what became of it."""
    action, value = single_action(body)
    if action != TEST:
        raise bad_request(f"There is no action {action[:80]!r} on webhooks; there is {TEST}.")
    require_no_options(action, value)
    delivery = await controller_of(request).webhook_sender.test(project_id, webhook_id)
    return JSONResponse({"delivery": delivery_view(delivery)})
