"""What groups do: now, and in the last hour."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import WithJsonSchema

from twinsite.api import answers, traffic_answers
from twinsite.api.groups import GroupId
from twinsite.api.listing import group_page
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.api.views import progress_view
from twinsite.control.history import HISTORY_SECONDS_MAX, INTERVAL_SECONDS, Sample
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.proof import epoch_timestamp
from twinsite.control.models import Group
from twinsite.control.refusals import bad_request
from twinsite.control.repository.listing import PageQuery

router = APIRouter(
    prefix="/v2/{project_id}",
    tags=["Replication consistency groups"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)


def _seconds(
    seconds: Annotated[
        str | None,
        Query(description="How far back, from the last sample on; an hour when left out."),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": HISTORY_SECONDS_MAX}),
    ] = None,
) -> int:
    if seconds is None:
        return HISTORY_SECONDS_MAX
    value = int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) <= 9 else 0
    if not 1 <= value <= HISTORY_SECONDS_MAX:
        raise bad_request(f"seconds is {seconds[:20]!r}; give 1 to {HISTORY_SECONDS_MAX}.")
    return value


@router.get(
    "/os-vendor-replication-consistency-groups/{replication_consistency_group_id}/history",
    responses={200: {"model": traffic_answers.HistoryOne}, **answers.ERRORS_OF_ONE},
)
async def show_history(
    request: Request, project_id: str, group_id: GroupId, seconds: Annotated[int, Depends(_seconds)]
) -> Response:
    """Show what a group did in the last hour: rates, latency and what its secondary lacks, every ten seconds.

    It is kept in the memory of the controller that is asked, and begins when that started.
    """
    samples = await controller_of(request).sampler.samples(project_id, group_id, seconds)
    history = {"interval_seconds": INTERVAL_SECONDS, "samples": [_sample_view(sample) for sample in samples]}
    return JSONResponse({"history": history})


@router.get("/os-vendor-traffic", responses={200: {"model": traffic_answers.TrafficList}, **answers.ERRORS})
async def list_traffic(request: Request, project_id: str, query: Annotated[PageQuery, Depends(group_page)]) -> Response:
    """List groups with what each does now; one answer holds up to 1000."""
    controller = controller_of(request)
    page, health = await controller.groups.page(project_id, query)
    now, at = asyncio.get_running_loop().time(), time.time()
    listed = [_traffic_view(row, health[row.id], controller.history.present(row.id, now, at)) for row in page.rows]
    return JSONResponse({"traffic": listed})


def _sample_view(sample: Sample) -> dict[str, Any]:
    return {
        "at": epoch_timestamp(sample.at),
        "writes_per_second": sample.writes_per_second,
        "write_bytes_per_second": sample.write_bytes_per_second,
        "reads_per_second": sample.reads_per_second,
        "read_bytes_per_second": sample.read_bytes_per_second,
        "sent_bytes_per_second": sample.sent_bytes_per_second,
        "ack_seconds": sample.ack_seconds,
        "dirty_bytes": sample.dirty_bytes,
        "resync_bytes_left": sample.resync_bytes_left,
        "holding": sample.is_holding,
    }


def _traffic_view(group: Group, health: GroupHealth, now: Sample | None) -> dict[str, Any]:
    worker = health.status
    return {
        "id": group.id,
        "name": group.name,
        "status": group.status,
        "replication_status": health.replication_status.value,
        "fault_level": health.fault_level,
        "priority_station": group.priority_station,
        "secondary_station": group.secondary_station,
        "mode": worker.mode.value if worker is not None else None,
        "holding_since": epoch_timestamp(worker.holding_since) if worker is not None else None,
        "progress": progress_view(health),
        "now": _sample_view(now) if now is not None else None,
    }
