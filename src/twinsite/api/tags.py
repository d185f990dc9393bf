"""Tags of volumes (EVS API reference, Tag Management, the family os-vendor-tags)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from twinsite.api import answers
from twinsite.api.action_values import single_action
from twinsite.api.literals import parse_literal
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of, public_url
from twinsite.api.schemas import TagBody, TagsBody
from twinsite.api.validation import parse_value
from twinsite.api.views import volume_view
from twinsite.control.lifecycle.labels import TagQuery, without
from twinsite.control.models import Volume
from twinsite.control.refusals import bad_request, not_found


class TagRoute(ProjectRoute):
    """A call on tags. The path that deletes several stands where the key of one would."""

    reserved: ClassVar[Mapping[str, frozenset[str]]] = {**ProjectRoute.reserved, "key": frozenset({"action"})}


router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-tags/volumes",
    tags=["Metadata and tags of volumes"],
    route_class=TagRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

vendor_router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-volumes/{volume_id}/tags",
    tags=["Metadata and tags of volumes"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)
"""The same tags, where the Go SDK looks for them."""

DELETE_TAGS = "os-delete_tags"
ALL = {200: {"model": answers.Tags}, **answers.ERRORS_OF_ONE}
ONE = {200: {"model": answers.Tag}, **answers.ERRORS_OF_ONE}
ACTION_EXAMPLES = {"delete": {"summary": "Delete tags", "value": {DELETE_TAGS: {"owner": "finance"}}}}

_WANTED = TypeAdapter(dict[str, list[str]])
TagFilter = Annotated[str | None, Query(description="Keys, and the values of each: {'key': ['value', 'other']}.")]


@router.get("", responses={200: {"model": answers.TagValues}, **answers.ERRORS})
async def list_tag_values(request: Request, project_id: str) -> Response:
    """List all tags of the project's volumes, with the values that each has."""
    return JSONResponse({"tags": await controller_of(request).labels.tag_values(project_id)})


@router.get("/resource_instances", responses={200: {"model": answers.TaggedResources}, **answers.ERRORS})
async def search_by_tags(
    request: Request,
    project_id: str,
    tags: TagFilter = None,
    tags_any: TagFilter = None,
    not_tags: TagFilter = None,
    not_tags_any: TagFilter = None,
) -> Response:
    """Find volumes by their tags."""
    query = TagQuery(
        _wanted("tags", tags),
        _wanted("tags_any", tags_any),
        _wanted("not_tags", not_tags),
        _wanted("not_tags_any", not_tags_any),
    )
    found = await controller_of(request).labels.search(project_id, query)

    def resource(volume: Volume) -> dict[str, Any]:
        detail = volume_view(volume, found.pairs.get(volume.id), public_url(request), "v2")
        shown = {"resource_id": volume.id, "resource_name": volume.name, "tags": volume.tags}
        return {**shown, "resource_detail": detail}

    return JSONResponse({"total_count": found.count, "resources": [resource(volume) for volume in found.volumes]})


def _wanted(name: str, text: str | None) -> dict[str, list[str]]:
    """Read a filter as clients of the EVS API write it."""
    if text is None:
        return {}
    return parse_literal(name, text, _WANTED, "a dictionary of lists of texts, such as {'key': ['value']}")


@router.get("/{volume_id}", responses=ALL)
async def show_tags(request: Request, project_id: str, volume_id: str) -> Response:
    """Show a volume's tags."""
    return JSONResponse({"tags": await controller_of(request).labels.tags(project_id, volume_id)})


@router.post("/{volume_id}", responses=ALL)
async def add_tags(request: Request, project_id: str, volume_id: str, body: TagsBody) -> Response:
    """Add tags to a volume, or change those that it has."""
    labels = controller_of(request).labels
    tags = await labels.change_tags(project_id, volume_id, lambda present: {**present, **body.tags})
    return JSONResponse({"tags": tags})


@router.put("/{volume_id}", responses=ALL)
async def replace_tags(request: Request, project_id: str, volume_id: str, body: TagsBody) -> Response:
    """Give a volume these tags and no other."""
    tags = await controller_of(request).labels.change_tags(project_id, volume_id, lambda _: body.tags)
    return JSONResponse({"tags": tags})


@router.post("/{volume_id}/action", responses={200: {"description": "No body."}, **answers.ERRORS_OF_ONE})
async def act_on_tags(
    request: Request,
    project_id: str,
    volume_id: str,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Delete tags of a volume by their keys. Those that it does not have are gone already."""
    action, value = single_action(body)
    if action != DELETE_TAGS:
        raise bad_request(f"There is no action {action[:80]!r} on tags; there is {DELETE_TAGS}.")
    keys = parse_value(TagsBody, {"tags": value}, action).tags
    labels = controller_of(request).labels
    await labels.change_tags(
        project_id, volume_id, lambda present: {key: value for key, value in present.items() if key not in keys}
    )
    return Response(status_code=200)


@router.get("/{volume_id}/{key}", responses=ONE)
async def show_tag(request: Request, project_id: str, volume_id: str, key: str) -> Response:
    """Show one tag of a volume."""
    tags = await controller_of(request).labels.tags(project_id, volume_id)
    if key not in tags:
        raise not_found("tag", key)
    return JSONResponse({"tag": {key: tags[key]}})


@router.put("/{volume_id}/{key}", responses=ONE)
async def set_tag(request: Request, project_id: str, volume_id: str, key: str, body: TagBody) -> Response:
    """Set one tag of a volume."""
    if list(body.tag) != [key]:
        raise bad_request(f"The body must hold exactly the tag {key[:80]!r} that the path names.")
    await controller_of(request).labels.change_tags(project_id, volume_id, lambda present: {**present, **body.tag})
    return JSONResponse({"tag": body.tag})


@router.delete("/{volume_id}/{key}", responses=answers.ERRORS_OF_ONE)
async def delete_tag(request: Request, project_id: str, volume_id: str, key: str) -> Response:
    """Delete one tag of a volume."""
    await controller_of(request).labels.change_tags(project_id, volume_id, lambda present: without(present, key, "tag"))
    return Response(status_code=200)


@vendor_router.get("", responses=ALL)
async def show_tags_of_volume(request: Request, project_id: str, volume_id: str) -> Response:
    """Show a volume's tags."""
    return await show_tags(request, project_id, volume_id)


@vendor_router.put("", responses=ALL)
async def replace_tags_of_volume(request: Request, project_id: str, volume_id: str, body: TagsBody) -> Response:
    """Give a volume these tags and no other."""
    return await replace_tags(request, project_id, volume_id, body)
