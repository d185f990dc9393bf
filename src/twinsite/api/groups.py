"""Replication consistency groups and their actions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.listing import page_query
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.api.schemas import GroupCreate, GroupUpdate
from twinsite.api.views import group_full_view, group_view
from twinsite.api.volumes import single_action
from twinsite.control.lifecycle.groups import GroupChange, NewGroup
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.control.models import Group
from twinsite.control.refusals import bad_request, not_implemented
from twinsite.control.repository.listing import PageQuery

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-replication-consistency-groups",
    tags=["Replication consistency groups"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

GroupId = Annotated[str, Path(alias="replication_consistency_group_id")]

SYNC = "os-sync-replication-consistency-group"
STOP = "os-stop-replication-consistency-group"
LATER = {
    "os-reverse-replication-consistency-group": "Switching a group over (reverse)",
    "os-failover-replication-consistency-group": "Failing a group over",
    "os-reprotect-replication-consistency-group": "Protecting a group again (reprotect)",
    "os-extend-replication-volumes": "Extending the disks of pairs",
}


@router.post("", status_code=202, responses={202: {"model": answers.GroupCreatedOne}, **answers.ERRORS_OF_CHANGE})
async def create_group(request: Request, project_id: str, body: GroupCreate) -> Response:
    """Group pairs that have one direction: their data is kept at one common point in time."""
    fields = body.replication_consistency_group
    wanted = NewGroup(
        pair_ids=fields.replication_ids,
        priority_station=fields.priority_station,
        replication_model=fields.replication_model,
        name=fields.name,
        description=fields.description,
    )
    group = await controller_of(request).groups.create(project_id, wanted)
    view = group_view(group, GroupHealth(ReplicationStatus.INACTIVE))
    return JSONResponse({"replication_consistency_group": view}, 202)


@router.get("", responses={200: {"model": answers.GroupList}, **answers.ERRORS})
async def list_groups(
    request: Request, project_id: str, query: Annotated[PageQuery, Depends(page_query(Group))]
) -> Response:
    """List groups; one answer holds up to 1000."""
    page, health = await controller_of(request).groups.page(project_id, query)
    return JSONResponse({"replication_consistency_groups": [group_view(row, health[row.id]) for row in page.rows]})


@router.get(
    "/{replication_consistency_group_id}", responses={200: {"model": answers.GroupOne}, **answers.ERRORS_OF_ONE}
)
async def show_group(request: Request, project_id: str, group_id: GroupId) -> Response:
    """Show a group, with the progress of its resync and what its workers say, in `twinsite`."""
    shown = await controller_of(request).groups.show(project_id, group_id)
    return JSONResponse({"replication_consistency_group": group_full_view(shown.group, shown.health)})


@router.put(
    "/{replication_consistency_group_id}",
    status_code=202,
    responses={202: {"model": answers.GroupCreatedOne}, **answers.ERRORS_OF_CHANGE},
)
async def change_group(request: Request, project_id: str, group_id: GroupId, body: GroupUpdate) -> Response:
    """Rename a group, or add and remove pairs while it is paused. It is `updating`, then `available`."""
    fields = body.replication_consistency_group
    wanted = GroupChange(
        name=fields.name,
        description=fields.description,
        replication_model=fields.replication_model,
        add_pair_ids=fields.add_replication_ids or (),
        remove_pair_ids=fields.remove_replication_ids or (),
    )
    shown = await controller_of(request).groups.change(project_id, group_id, wanted)
    view = group_view(shown.group, shown.health, GroupStatus.UPDATING.value)
    return JSONResponse({"replication_consistency_group": view}, 202)


@router.delete("/{replication_consistency_group_id}", status_code=202, responses=answers.ERRORS_OF_CHANGE)
async def delete_group(request: Request, project_id: str, group_id: GroupId) -> Response:
    """Delete a group that has no pairs left."""
    await controller_of(request).groups.delete(project_id, group_id)
    return Response(status_code=202)


ACTION_EXAMPLES = {
    "sync": {"summary": "Synchronize", "description": "No-op while copying or active.", "value": {SYNC: None}},
    "stop": {"summary": "Pause", "description": "In force before the answer.", "value": {STOP: None}},
}


@router.post(
    "/{replication_consistency_group_id}/action",
    responses={200: {"description": "Recorded (sync), or in force (stop). No body."}, **answers.ERRORS_OF_CHANGE},
)
async def act_on_group(
    request: Request,
    project_id: str,
    group_id: GroupId,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Synchronize the data between the production disks and the DR disks of all pairs of a group, or pause that.

    After a synchronization the data in all pairs of the group is consistent, and every write is acknowledged only
    when both sides have it.
    """
    action, value = single_action(body)
    groups = controller_of(request).groups
    if action in LATER:
        await groups.show(project_id, group_id)
        raise not_implemented(f"{LATER[action]} ({action}) is not offered yet.")
    if action not in (SYNC, STOP):
        known = ", ".join([SYNC, STOP, *LATER])
        raise bad_request(f"There is no action {action[:80]!r} on groups; there are {known}.")
    if value not in (None, {}):
        raise bad_request(f"The value of {action} must be null.")
    await (groups.sync if action == SYNC else groups.stop)(project_id, group_id)
    return Response(status_code=200)
