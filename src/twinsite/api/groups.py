"""Replication consistency groups and their actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from twinsite.api import answers
from twinsite.api.action_values import options_of, require_no_options, single_action
from twinsite.api.auditing import GROUP_PARAMETER, READING_METHODS
from twinsite.api.listing import group_page
from twinsite.api.routes import TOKEN_DOCUMENTATION, Handler, ProjectRoute, controller_of, is_allowed, require
from twinsite.api.schemas import ExtendFields, GroupCreate, GroupUpdate
from twinsite.api.validation import parse_value
from twinsite.api.views import group_full_view, group_view
from twinsite.control import overlap
from twinsite.control.controller import Controller
from twinsite.control.lifecycle.groups import GroupChange, NewGroup
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.control.refusals import StateRefused, bad_request
from twinsite.control.repository.listing import PageQuery


class GroupRoute(ProjectRoute):
    """A call on groups. Of changes of one group that are under way at once one wins, and all others get a 409."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the call and send its answer, and let the other calls on the group know all that time."""
        group_id = scope["path_params"].get(GROUP_PARAMETER)
        if group_id is None or scope["method"] in READING_METHODS:
            await super().handle(scope, receive, send)
            return
        controller: Controller = scope["app"].state.controller
        with controller.overlaps.under_way(group_id):
            await super().handle(scope, receive, send)

    async def serve(self, handle: Handler, request: Request) -> Response:
        """Make the call; refuse it with a 409 where it is another one's doing that the state does not allow it."""
        try:
            return await handle(request)
        except StateRefused as refusal:
            this = overlap.current.get()
            raise (refusal if this is None else this.judged(refusal)) from None


router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-replication-consistency-groups",
    tags=["Replication consistency groups"],
    route_class=GroupRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

GroupId = Annotated[str, Path(alias="replication_consistency_group_id")]

SYNC = "os-sync-replication-consistency-group"
STOP = "os-stop-replication-consistency-group"
FAIL_OVER = "os-failover-replication-consistency-group"
REVERSE = "os-reverse-replication-consistency-group"
REPROTECT = "os-reprotect-replication-consistency-group"
EXTEND = "os-extend-replication-volumes"
FORCE_RULE = "replication_consistency_groups:force"
FORCE = "force"
"""Key in the value of a failover or a stop: the loss that is stated is accepted."""
TARGET = "priority_station"
"""Key in the value of a move: the site that is to be primary afterwards."""
ACTIONS = (SYNC, STOP, FAIL_OVER, REVERSE, REPROTECT, EXTEND)


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
async def list_groups(request: Request, project_id: str, query: Annotated[PageQuery, Depends(group_page)]) -> Response:
    """List groups; one answer holds up to 1000."""
    page, health = await controller_of(request).groups.page(project_id, query)
    return JSONResponse({"replication_consistency_groups": [group_view(row, health[row.id]) for row in page.rows]})


@router.get(
    "/{replication_consistency_group_id}", responses={200: {"model": answers.GroupOne}, **answers.ERRORS_OF_ONE}
)
async def show_group(request: Request, project_id: str, group_id: GroupId) -> Response:
    """Show a group, with the progress of its resync and what its workers say, in `twinsite`."""
    with_pools = is_allowed(request, "sites:get")
    shown = await controller_of(request).overviews.view(project_id, group_id, with_pools=with_pools)
    view = group_full_view(shown.group, shown.health, shown.advice)
    return JSONResponse({"replication_consistency_group": view})


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
    "failover": {
        "summary": "Fail over",
        "description": "Make the DR side primary; refused while that would lose acknowledged writes.",
        "value": {FAIL_OVER: None},
    },
    "forced failover": {
        "summary": "Fail over and accept the loss",
        "description": "The loss is that of twinsite.failover.loss.",
        "value": {FAIL_OVER: {"force": True}},
    },
    "reverse": {
        "summary": "Switch over",
        "description": "Swap the two sides of an active group without loss.",
        "value": {REVERSE: None},
    },
    "reverse to a site": {
        "summary": "Switch over to a site",
        "description": "Does nothing when that is primary already: safe to repeat when an answer was lost.",
        "value": {REVERSE: {TARGET: "az2"}},
    },
    "extend": {
        "summary": "Extend disks",
        "description": "Both disks of each listed pair, in GiB; all of them or none. Answered when they have grown.",
        "value": {EXTEND: {"replications": [{"id": "9d3a1c5e-2f0b-4c55-9d0e-3a3c0f0a1b2c", "new_size": 20}]}},
    },
    "reprotect": {
        "summary": "Protect again",
        "description": "After a failover: replicate from the new primary.",
        "value": {REPROTECT: None},
    },
}


@router.post(
    "/{replication_consistency_group_id}/action",
    responses={
        200: {"description": "In force (stop), promoted (failover), or recorded (the others). No body."},
        **answers.ERRORS_OF_CHANGE,
    },
)
async def act_on_group(
    request: Request,
    project_id: str,
    group_id: GroupId,
    body: Annotated[dict[str, Any], Body(openapi_examples=ACTION_EXAMPLES)],
) -> Response:
    """Synchronize the data between the production disks and the DR disks of all pairs of a group, pause it, or move it.

    After a synchronization the data in all pairs of the group is consistent, and every write is acknowledged only
    when both sides have it.
    """
    action, value = single_action(body)
    groups, moves = controller_of(request).groups, controller_of(request).moves
    if action not in ACTIONS:
        known = ", ".join(ACTIONS)
        raise bad_request(f"There is no action {action[:80]!r} on groups; there are {known}.")
    if action == FAIL_OVER:
        options = options_of(action, value, FORCE, TARGET)
        force, to = _force(request, action, options), _target(action, options)
        await moves.failover(project_id, group_id, force=force, to=to)
        return Response(status_code=200)
    if action == STOP:
        force = _force(request, action, options_of(action, value, FORCE))
        await groups.stop(project_id, group_id, force=force)
        return Response(status_code=200)
    if action == EXTEND:
        await controller_of(request).extends.extend(project_id, group_id, _new_sizes(value))
        return Response(status_code=200)
    if action == REVERSE:
        await moves.reverse(project_id, group_id, to=_target(action, options_of(action, value, TARGET)))
        return Response(status_code=200)
    require_no_options(action, value)
    calls = {SYNC: groups.sync, REPROTECT: moves.reprotect}
    await calls[action](project_id, group_id)
    return Response(status_code=200)


def _new_sizes(value: Any) -> list[tuple[str, int]]:
    """Return the pairs and their new sizes in GiB: a list under `replications`, or one of them bare."""
    is_bare = isinstance(value, dict) and "replications" not in value
    wanted = parse_value(ExtendFields, {"replications": [value]} if is_bare else value, EXTEND)
    return [(item.id, item.new_size) for item in wanted.replications]


def _target(action: str, options: Mapping[str, Any]) -> str | None:
    """Return the site that a move is to make primary: none, or named so that a repeated request does nothing more."""
    target = options.get(TARGET)
    if target is not None and not isinstance(target, str):
        raise bad_request(f"The {TARGET} of {action} must be the name of an availability zone.")
    return target


def _force(request: Request, action: str, options: Mapping[str, Any]) -> bool:
    """Return whether an action is forced, which has a rule of its own."""
    force = options.get(FORCE, False)
    if not isinstance(force, bool):
        raise bad_request(f"The {FORCE} of {action} must be true or false.")
    if force:
        require(request, FORCE_RULE)
    return force
