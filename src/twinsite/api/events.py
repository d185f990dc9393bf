"""The events of groups: lists and streams, of one group and of all of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.acceptable import EVENT_STREAM, JSON
from twinsite.api.event_stream import open_stream, wants_stream
from twinsite.api.groups import GroupId
from twinsite.api.listing import PlaceQuery, place_query
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.control.lifecycle.event_views import event_view, feed_event_view


class EventRoute(ProjectRoute):
    """A call that answers a list, or with `follow=true` a stream."""

    def media_type(self, request: Request) -> str:
        """Return what the call answers."""
        return EVENT_STREAM if wants_stream(request.query_params.get("follow")) else JSON


router = APIRouter(
    prefix="/v2/{project_id}",
    tags=["Events"],
    route_class=EventRoute,
    dependencies=TOKEN_DOCUMENTATION,
)

Follow = Annotated[str | None, Query(include_in_schema=False)]
"""Not in the document, whose answers all come to an end; docs/api.md has it."""


@router.get(
    "/os-vendor-replication-consistency-groups/{replication_consistency_group_id}/events",
    responses={200: {"model": answers.EventList}, **answers.ERRORS_OF_ONE},
)
async def list_events(
    request: Request,
    project_id: str,
    group_id: GroupId,
    place: Annotated[PlaceQuery, Depends(place_query)],
    follow: Follow = None,
) -> Response:
    """List what was done to a group and what happened to it, the newest first, with the proof of that time.

    With `follow=true` the answer is a stream of server-sent events, oldest first, from now on or after Last-Event-ID.
    """
    if wants_stream(follow):
        return await open_stream(request, project_id, group_id)
    groups = controller_of(request).groups
    events = await groups.events(project_id, group_id, place.marker, place.limit, place.offset)
    return JSONResponse({"events": [event_view(event) for event in events]})


@router.get("/os-vendor-events", responses={200: {"model": answers.FeedEventList}, **answers.ERRORS})
async def list_all_events(
    request: Request, project_id: str, place: Annotated[PlaceQuery, Depends(place_query)], follow: Follow = None
) -> Response:
    """List the events of all of a project's groups, the newest first.

    With `follow=true` the answer is a stream of server-sent events, oldest first, from now on or after Last-Event-ID.
    """
    if wants_stream(follow):
        return await open_stream(request, project_id, None)
    events = await controller_of(request).feed.page(project_id, place.marker, place.limit, place.offset)
    return JSONResponse({"events": [feed_event_view(event) for event in events]})
