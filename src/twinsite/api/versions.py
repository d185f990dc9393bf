"""Version discovery, without a token: clients begin with it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import cloud_answers
from twinsite.api.routes import OpenRoute, auth_challenge, auth_url, controller_of, public_url
from twinsite.control.refusals import RequestRefused

elsewhere_router = APIRouter(route_class=OpenRoute, include_in_schema=False)
"""What stands at /identity where a real Keystone is in the place of the embedded one."""
router = APIRouter(tags=["Versions"], route_class=OpenRoute)

UPDATED = "2026-01-01T00:00:00Z"


def _media_types(version: str) -> list[dict[str, str]]:
    return [{"base": "application/json", "type": f"application/vnd.openstack.volume+json;version={version}"}]


def _volume_version(url: str, number: str) -> dict[str, Any]:
    microversion = "3.0" if number == "3" else ""
    return {
        "id": f"v{number}.0",
        "status": "CURRENT" if number == "3" else "SUPPORTED",
        "version": microversion,
        "min_version": microversion,
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{url}/v{number}/"}],
        "media-types": _media_types(number),
    }


def _identity_version(url: str) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{url}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def require_embedded(request: Request) -> None:
    """Refuse (404) what only the embedded identity has, where a real Keystone is in its place."""
    if controller_of(request).settings.keystone_auth_url is not None:
        raise RequestRefused(
            404, "EVS.5404", f"Identity is offered by the Keystone at {auth_url(request)}; log in there."
        )


@router.get("/", status_code=300, responses={300: {"model": cloud_answers.VersionList}})
async def list_volume_versions(request: Request) -> Response:
    """List the versions of the volume interface."""
    url = public_url(request)
    versions = [_volume_version(url, "2"), _volume_version(url, "3")]
    return JSONResponse({"versions": versions}, 300, {"WWW-Authenticate": auth_challenge(request)})


@router.get("/v2", responses={200: {"model": cloud_answers.VersionList}})
async def show_volume_version_2(request: Request) -> Response:
    """Show version 2 of the volume interface."""
    return JSONResponse({"versions": [_volume_version(public_url(request), "2")]})


@router.get("/v3", responses={200: {"model": cloud_answers.VersionList}})
async def show_volume_version_3(request: Request) -> Response:
    """Show version 3 of the volume interface."""
    return JSONResponse({"versions": [_volume_version(public_url(request), "3")]})


@router.get("/identity", status_code=300, responses={300: {"model": cloud_answers.IdentityVersionList}})
async def list_identity_versions(request: Request) -> Response:
    """List the versions of the identity interface."""
    require_embedded(request)
    return JSONResponse({"versions": {"values": [_identity_version(public_url(request))]}}, 300)


@router.get("/identity/v3", responses={200: {"model": cloud_answers.VersionOne}})
async def show_identity_version(request: Request) -> Response:
    """Show version 3 of the identity interface."""
    require_embedded(request)
    return JSONResponse({"version": _identity_version(public_url(request))})


@router.get("/healthz", tags=["Health"], responses={200: {"model": cloud_answers.HealthAnswer}})
async def show_health(request: Request) -> Response:
    """Say that the controller answers, and which sites' nodes are connected."""
    controller = controller_of(request)
    connected = await controller.connected_sites()
    sites = {name: name in connected for name in controller.settings.availability_zones}
    return JSONResponse({"status": "ok", "sites": sites})


@router.get("/readyz", tags=["Health"], responses={200: {"model": cloud_answers.ReadyAnswer}})
async def show_readiness(request: Request) -> Response:
    """Say whether the controller can serve: its database answers, and it is not about to end.

    The answer is 503 when it cannot. A node that is silent makes no controller unready: it can still be asked.
    """
    trouble = await controller_of(request).trouble()
    if trouble is not None:
        raise RequestRefused(503, "EVS.5503", f"The controller is not ready: {trouble}.")
    return JSONResponse({"status": "ready"})


@elsewhere_router.api_route("/identity/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def show_where_identity_is(request: Request, rest: str) -> Response:
    """Say that identity is elsewhere."""
    require_embedded(request)
    raise RequestRefused(404, "EVS.5404", f"There is nothing at {request.url.path!r}.")
