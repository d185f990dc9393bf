"""Sites, for administrators: which are there, and giving up one that is gone for good."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.action_values import require_no_options, single_action
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.api.views import site_view
from twinsite.control.refusals import bad_request

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-sites",
    tags=["Sites"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

FORGET = "os-forget-site"
RESTORE = "os-restore-site"

ACTION_EXAMPLES = {
    "forget": {
        "summary": "Give a site up",
        "description": "It is gone for good: nothing waits for its node any more.",
        "value": {FORGET: None},
    },
    "restore": {
        "summary": "Use it again",
        "description": "Once its volumes are deleted.",
        "value": {RESTORE: None},
    },
}


@router.get("", responses={200: {"model": answers.SiteList}, **answers.ERRORS_OF_ADMIN})
async def list_sites(request: Request, project_id: str) -> Response:
    """List the availability zones with their nodes and pools."""
    shown = await controller_of(request).sites.list_all()
    return JSONResponse({"sites": [site_view(site) for site in shown]})


@router.post(
    "/{site_name}/action",
    responses={200: {"description": "In force. No body."}, **answers.ERRORS_OF_ADMIN, **answers.ERRORS_OF_CHANGE},
)
async def act_on_site(
    request: Request,
    project_id: str,
    site_name: str,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Give a site up, or let a lost one be used again."""
    action, value = single_action(body)
    sites = controller_of(request).sites
    calls = {FORGET: sites.forget, RESTORE: sites.restore}
    if action not in calls:
        raise bad_request(f"There is no action {action[:80]!r} on sites; there are {', '.join(calls)}.")
    require_no_options(action, value)
    await calls[action](site_name)
    return Response(status_code=200)
