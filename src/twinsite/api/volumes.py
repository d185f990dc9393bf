"""Volumes and what belongs to them, under /v2 and /v3 alike."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers, cloud_answers
from twinsite.api.action_values import single_action
from twinsite.api.listing import volume_page
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, caller_of, controller_of, public_url
from twinsite.api.schemas import ConnectorBody, VolumeCreate, VolumeExtendFields, VolumeUpdate
from twinsite.api.unoffered import UNOFFERED_VOLUME_ACTIONS
from twinsite.api.validation import parse_value
from twinsite.api.views import connection_view, volume_links, volume_view
from twinsite.control.controller import Controller
from twinsite.control.lifecycle.quotas import Resource
from twinsite.control.lifecycle.volumes import NewVolume, VolumeChange
from twinsite.control.refusals import bad_request, not_found, not_implemented
from twinsite.control.repository.listing import PageQuery
from twinsite.control.texts import check_description, check_name

router = APIRouter(prefix="/{project_id}", tags=["Volumes"], route_class=ProjectRoute, dependencies=TOKEN_DOCUMENTATION)

PageOfVolumes = Annotated[PageQuery, Depends(volume_page)]


def _version(request: Request) -> str:
    return str(request.url.path).split("/")[1]


@router.post("/volumes", status_code=202, responses={202: {"model": answers.VolumeOne}, **answers.ERRORS_OF_CHANGE})
async def create_volume(request: Request, project_id: str, body: VolumeCreate) -> Response:
    """Create a volume. It is `creating` first and `available` once its site's node has made it."""
    fields = body.volume
    for name in ("snapshot_id", "source_volid", "imageRef"):
        if getattr(fields, name) is not None:
            raise not_implemented(f"Creating a volume from {name} is not offered yet; create an empty one.")
    wanted = NewVolume(
        size_gib=fields.size,
        availability_zone=fields.availability_zone,
        name=fields.name,
        description=fields.description,
        volume_type=fields.volume_type,
        multiattach=bool(fields.multiattach),
        metadata=fields.metadata or {},
    )
    volume = await controller_of(request).volumes.create(project_id, caller_of(request).user_id, wanted)
    return JSONResponse({"volume": volume_view(volume, None, public_url(request), _version(request))}, 202)


@router.get("/volumes", responses={200: {"model": answers.VolumeList}, **answers.ERRORS})
async def list_volumes(request: Request, project_id: str, query: PageOfVolumes) -> Response:
    """List volumes, briefly."""
    page, _ = await controller_of(request).volumes.page(project_id, query)
    url, version = public_url(request), _version(request)
    rows = [{"id": row.id, "name": row.name, "links": volume_links(row, url, version)} for row in page.rows]
    return JSONResponse(_with_next_link(request, rows, page.more))


@router.get("/volumes/detail", responses={200: {"model": answers.VolumeDetailList}, **answers.ERRORS})
async def list_volumes_in_detail(request: Request, project_id: str, query: PageOfVolumes) -> Response:
    """List volumes with all that is known of them."""
    page, pairs = await controller_of(request).volumes.page(project_id, query)
    url, version = public_url(request), _version(request)
    rows = [volume_view(row, pairs.get(row.id), url, version) for row in page.rows]
    return JSONResponse(_with_next_link(request, rows, page.more))


def _with_next_link(request: Request, rows: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"volumes": rows}
    if more:
        kept = [(key, value) for key, value in request.query_params.multi_items() if key not in ("marker", "offset")]
        query = urlencode([*kept, ("marker", rows[-1]["id"])])
        body["volumes_links"] = [{"rel": "next", "href": f"{public_url(request)}{request.url.path}?{query}"}]
    return body


@router.get("/volumes/summary", responses={200: {"model": answers.VolumeSummaryOne}, **answers.ERRORS})
async def show_summary(request: Request, project_id: str) -> Response:
    """Show how many volumes the project has, and their GiB together."""
    quotas = await controller_of(request).quotas.show(project_id)
    count, gigabytes = quotas[Resource.VOLUMES].in_use, quotas[Resource.GIGABYTES].in_use
    return JSONResponse({"volume-summary": {"total_count": count, "total_size": gigabytes}})


@router.get("/volumes/{volume_id}", responses={200: {"model": answers.VolumeOne}, **answers.ERRORS_OF_ONE})
async def show_volume(request: Request, project_id: str, volume_id: str) -> Response:
    """Show a volume."""
    volume, pair = await controller_of(request).volumes.show(project_id, volume_id)
    return JSONResponse({"volume": volume_view(volume, pair, public_url(request), _version(request))})


@router.put("/volumes/{volume_id}", responses={200: {"model": answers.VolumeOne}, **answers.ERRORS_OF_ONE})
async def change_volume(request: Request, project_id: str, volume_id: str, body: VolumeUpdate) -> Response:
    """Change a volume's name, description or metadata."""
    fields = body.volume
    check_name(fields.display_name)
    check_description(fields.display_description)
    wanted = VolumeChange(
        name=fields.name if fields.name is not None else fields.display_name,
        description=fields.description if fields.description is not None else fields.display_description,
        metadata=fields.metadata,
    )
    volume, pair = await controller_of(request).volumes.change(project_id, volume_id, wanted)
    return JSONResponse({"volume": volume_view(volume, pair, public_url(request), _version(request))})


@router.delete("/volumes/{volume_id}", status_code=202, responses=answers.ERRORS_OF_CHANGE)
async def delete_volume(request: Request, project_id: str, volume_id: str) -> Response:
    """Delete a volume. It is `deleting` until its site's node has removed it; then it is gone."""
    await controller_of(request).volumes.delete(project_id, volume_id)
    return Response(status_code=202)


ACTION_EXAMPLES = {
    "connect": {"summary": "Connect a host", "value": {"os-initialize_connection": {"connector": {"host": "host-1"}}}},
    "disconnect": {
        "summary": "Disconnect a host",
        "value": {"os-terminate_connection": {"connector": {"host": "host-1"}}},
    },
    "extend": {
        "summary": "Extend",
        "description": "In GiB; hosts that connect afterwards see the new size.",
        "value": {"os-extend": {"new_size": 20}},
    },
}


@router.post(
    "/volumes/{volume_id}/action",
    responses={
        200: {"model": answers.ConnectionOne, "description": "os-initialize_connection"},
        202: {"description": "Recorded: os-terminate_connection, os-extend. No body."},
        **answers.ERRORS_OF_CHANGE,
    },
)
async def act_on_volume(
    request: Request,
    project_id: str,
    volume_id: str,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Connect or disconnect a host, or extend a volume that is in no pair: it is `extending`, then has the new size."""
    action, value = single_action(body)
    controller = controller_of(request)
    if action == "os-initialize_connection":
        connector = parse_value(ConnectorBody, value, action).connector
        if connector is None or connector.host is None:
            raise bad_request(f"{action}: connector.host is missing; name the host that will use the volume.")
        return JSONResponse(connection_view(await controller.volumes.connect(project_id, volume_id, connector.host)))
    if action == "os-terminate_connection":
        connector = parse_value(ConnectorBody, value if value is not None else {}, action).connector
        await controller.volumes.disconnect(project_id, volume_id, connector.host if connector is not None else None)
        return Response(status_code=202)
    if action == "os-extend":
        new_size_gib = parse_value(VolumeExtendFields, value, action).new_size
        await controller.volume_extends.extend(project_id, volume_id, new_size_gib)
        return Response(status_code=202)
    await controller.volumes.show(project_id, volume_id)
    if action in UNOFFERED_VOLUME_ACTIONS:
        raise not_implemented(f"{action} is not offered here; see docs/api.md for what is, and why.")
    known = "os-initialize_connection, os-terminate_connection, os-extend"
    raise bad_request(f"There is no action {action[:80]!r} on volumes; there are {known}.")


@router.get(
    "/types",
    tags=["Volume types, zones, limits"],
    responses={200: {"model": cloud_answers.VolumeTypeList}, **answers.ERRORS},
)
async def list_types(request: Request, project_id: str) -> Response:
    """List the volume types."""
    controller = controller_of(request)
    return JSONResponse({"volume_types": [_type_view(controller, name) for name in controller.settings.volume_types]})


@router.get(
    "/types/{type_id}",
    tags=["Volume types, zones, limits"],
    responses={200: {"model": cloud_answers.VolumeTypeOne}, **answers.ERRORS_OF_ONE},
)
async def show_type(request: Request, project_id: str, type_id: str) -> Response:
    """Show a volume type, by id or name; `default` is the one that a volume gets when none is named."""
    controller = controller_of(request)
    settings = controller.settings
    wanted = settings.default_volume_type if type_id == "default" else type_id
    for name in settings.volume_types:
        if wanted in (name, settings.volume_type_id(name)):
            return JSONResponse({"volume_type": _type_view(controller, name)})
    raise not_found("volume type", type_id)


def _type_view(controller: Controller, name: str) -> dict[str, Any]:
    return {
        "id": controller.settings.volume_type_id(name),
        "name": name,
        "description": None,
        "is_public": True,
        "os-volume-type-access:is_public": True,
        "extra_specs": {},
        "qos_specs_id": None,
    }


@router.get(
    "/os-availability-zone",
    tags=["Volume types, zones, limits"],
    responses={200: {"model": cloud_answers.ZoneList}, **answers.ERRORS},
)
async def list_zones(request: Request, project_id: str) -> Response:
    """List the availability zones; one is available while its node is connected."""
    controller = controller_of(request)
    connected = await controller.connected_sites()
    zones = [
        {"zoneName": name, "zoneState": {"available": name in connected}}
        for name in controller.settings.availability_zones
    ]
    return JSONResponse({"availabilityZoneInfo": zones})


@router.get(
    "/limits",
    tags=["Volume types, zones, limits"],
    responses={200: {"model": cloud_answers.LimitsAnswer}, **answers.ERRORS},
)
async def show_limits(request: Request, project_id: str) -> Response:
    """Show what the project may use and what it uses."""
    quotas = await controller_of(request).quotas.show(project_id)
    volumes, gigabytes = quotas[Resource.VOLUMES], quotas[Resource.GIGABYTES]
    absolute = {
        "maxTotalVolumes": volumes.limit,
        "maxTotalVolumeGigabytes": gigabytes.limit,
        "maxTotalSnapshots": 0,
        "maxTotalBackups": 0,
        "maxTotalBackupGigabytes": 0,
        "totalVolumesUsed": volumes.in_use,
        "totalGigabytesUsed": gigabytes.in_use,
        "totalSnapshotsUsed": 0,
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    return JSONResponse({"limits": {"rate": [], "absolute": absolute}})
