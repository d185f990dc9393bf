"""Sites and groups at one look, with what is the matter and what to do about it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from twinsite.api import answers
from twinsite.api.listing import PlaceQuery, place_query
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of, is_allowed
from twinsite.api.views import advice_view, group_view, progress_view
from twinsite.control.lifecycle.overview import OVERVIEW_GROUPS_MAX, AdvisedGroup, SiteOverview
from twinsite.control.lifecycle.proof import proof_of, timestamp
from twinsite.control.repository.listing import PageQuery

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-overview",
    tags=["Overview"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)


class SiteOverviewAnswer(answers.Answer):
    """A site. What only operators may know is null for others."""

    name: str
    state: str = Field(description="connected; silent; lost (given up); new (its node was never heard).")
    node_name: str | None
    connected: bool
    last_seen_at: str | None
    pool_total_bytes: int | None
    pool_free_bytes: int | None
    groups_primary: int = Field(description="How many of the groups that are listed have it for their primary site.")


class GroupOverviewAnswer(answers.Answer):
    """A group, and what is the matter with it."""

    id: str
    name: str | None
    status: str
    replication_status: str
    fault_level: str
    primary_site: str
    secondary_site: str
    mode: str | None = Field(description="What the primary worker is doing; null while it is not there.")
    in_sync_since: str | None
    stale_since: str | None
    holding_since: str | None
    dirty_bytes: int | None = Field(description="What the secondary site lacks, as last reported.")
    progress: answers.ProgressAnswer
    failover: answers.FailoverAnswer
    failure_detail: str | None
    advice: list[answers.AdviceAnswer] = Field(description="The worst first; there is always something.")


class OverviewAnswer(answers.Answer):
    """All sites and a page of groups, the newest first."""

    sites: list[SiteOverviewAnswer]
    groups: list[GroupOverviewAnswer]
    truncated: bool = Field(description="There are more groups: ask again with the last one's id for the marker.")


class OverviewOne(answers.Answer):
    """One snapshot."""

    overview: OverviewAnswer


@router.get("", responses={200: {"model": OverviewOne}, **answers.ERRORS})
async def show_overview(
    request: Request, project_id: str, place: Annotated[PlaceQuery, Depends(place_query)]
) -> Response:
    """Show how the sites and the project's groups are, at one moment, with what is the matter and what to do."""
    with_pools = is_allowed(request, "sites:get")
    query = PageQuery(place.marker, min(place.limit, OVERVIEW_GROUPS_MAX), place.offset)
    found = await controller_of(request).overviews.overview(project_id, query, with_pools=with_pools)
    view = {
        "sites": [_site_view(site, with_pools) for site in found.sites],
        "groups": [_group_view(group) for group in found.groups],
        "truncated": found.is_truncated,
    }
    return JSONResponse({"overview": view})


def _site_view(site: SiteOverview, with_pools: bool) -> dict[str, Any]:
    return {
        "name": site.name,
        "state": site.state,
        "node_name": site.node_name if with_pools else None,
        "connected": site.state == "connected",
        "last_seen_at": timestamp(site.last_seen_at),
        "pool_total_bytes": site.pool.total_bytes if with_pools else None,
        "pool_free_bytes": site.pool.free_bytes if with_pools else None,
        "groups_primary": site.groups_primary,
    }


def _group_view(shown: AdvisedGroup) -> dict[str, Any]:
    group, health = shown.group, shown.health
    listed, proof = group_view(group, health), proof_of(group, health)
    worker = health.status or health.last_primary
    return {
        **{key: listed[key] for key in ("id", "name", "status", "replication_status", "fault_level")},
        "primary_site": group.priority_station,
        "secondary_site": group.secondary_station,
        "mode": health.status.mode.value if health.status is not None else None,
        **{key: proof[key] for key in ("in_sync_since", "stale_since", "holding_since")},
        "dirty_bytes": worker.dirty_bytes if worker is not None else None,
        "progress": progress_view(health),
        "failover": proof["failover"],
        "failure_detail": listed["failure_detail"],
        "advice": advice_view(shown.advice),
    }
