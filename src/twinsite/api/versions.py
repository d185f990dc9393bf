"""Version discovery, without a token: clients begin with it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import cloud_answers
from twinsite.api.routes import OpenRoute, controller_of, public_url

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


@router.get("/", status_code=300, responses={300: {"model": cloud_answers.VersionList}})
async def list_volume_versions(request: Request) -> Response:
    """List the versions of the volume interface."""
    url = public_url(request)
    return JSONResponse({"versions": [_volume_version(url, "2"), _volume_version(url, "3")]}, 300)


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
    return JSONResponse({"versions": {"values": [_identity_version(public_url(request))]}}, 300)


@router.get("/identity/v3", responses={200: {"model": cloud_answers.VersionOne}})
async def show_identity_version(request: Request) -> Response:
    """Show version 3 of the identity interface."""
    return JSONResponse({"version": _identity_version(public_url(request))})


@router.get("/healthz", tags=["Health"], responses={200: {"model": cloud_answers.HealthAnswer}})
async def show_health(request: Request) -> Response:
    """Say that the controller answers, and which sites' nodes are connected."""
    controller = controller_of(request)
    connected = await controller.connected_sites()
    sites = {name: name in connected for name in controller.settings.availability_zones}
    return JSONResponse({"status": "ok", "sites": sites})
