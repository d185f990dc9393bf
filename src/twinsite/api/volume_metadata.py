"""Metadata of volumes, entry by entry, as Cinder has them, under /v2 and /v3 alike."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.api.schemas import MetadataBody, MetadataEntryBody
from twinsite.control.lifecycle.labels import without
from twinsite.control.refusals import bad_request, not_found

router = APIRouter(
    prefix="/{project_id}/volumes/{volume_id}/metadata",
    tags=["Metadata and tags of volumes"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

ALL = {200: {"model": answers.Metadata}, **answers.ERRORS_OF_ONE}
ENTRY = {200: {"model": answers.MetadataEntry}, **answers.ERRORS_OF_ONE}


@router.get("", responses=ALL)
async def show_metadata(request: Request, project_id: str, volume_id: str) -> Response:
    """Show a volume's metadata."""
    return JSONResponse({"metadata": await controller_of(request).labels.metadata(project_id, volume_id)})


@router.post("", responses=ALL)
async def add_metadata(request: Request, project_id: str, volume_id: str, body: MetadataBody) -> Response:
    """Add entries to a volume's metadata, or change those that it has."""
    labels = controller_of(request).labels
    metadata = await labels.change_metadata(project_id, volume_id, lambda present: {**present, **body.metadata})
    return JSONResponse({"metadata": metadata})


@router.put("", responses=ALL)
async def replace_metadata(request: Request, project_id: str, volume_id: str, body: MetadataBody) -> Response:
    """Give a volume this metadata and no other."""
    labels = controller_of(request).labels
    metadata = await labels.change_metadata(project_id, volume_id, lambda _: body.metadata)
    return JSONResponse({"metadata": metadata})


@router.get("/{key}", responses=ENTRY)
async def show_metadata_entry(request: Request, project_id: str, volume_id: str, key: str) -> Response:
    """Show one entry of a volume's metadata."""
    metadata = await controller_of(request).labels.metadata(project_id, volume_id)
    if key not in metadata:
        raise not_found("metadata entry", key)
    return JSONResponse({"meta": {key: metadata[key]}})


@router.put("/{key}", responses=ENTRY)
async def set_metadata_entry(
    request: Request, project_id: str, volume_id: str, key: str, body: MetadataEntryBody
) -> Response:
    """Set one entry of a volume's metadata."""
    if list(body.meta) != [key]:
        raise bad_request(f"The body must hold exactly the entry {key[:80]!r} that the path names.")
    labels = controller_of(request).labels
    await labels.change_metadata(project_id, volume_id, lambda present: {**present, **body.meta})
    return JSONResponse({"meta": body.meta})


@router.delete("/{key}", responses=answers.ERRORS_OF_ONE)
async def delete_metadata_entry(request: Request, project_id: str, volume_id: str, key: str) -> Response:
    """Delete one entry of a volume's metadata."""
    labels = controller_of(request).labels
    await labels.change_metadata(project_id, volume_id, lambda present: without(present, key, "metadata entry"))
    return Response(status_code=200)
