"""Replication pairs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.listing import pair_page
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.api.schemas import PairCreate
from twinsite.api.views import pair_created_view, pair_view
from twinsite.control.lifecycle.pairs import NewPair
from twinsite.control.repository.listing import PageQuery

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-replications",
    tags=["Replication pairs"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)


@router.post("", status_code=202, responses={202: {"model": answers.PairCreatedOne}, **answers.ERRORS_OF_ONE})
async def create_pair(request: Request, project_id: str, body: PairCreate) -> Response:
    """Pair a production disk with a DR disk of the same size, type and multiattach in another zone."""
    fields = body.replication
    wanted = NewPair(
        volume_ids=fields.volume_ids,
        priority_station=fields.priority_station,
        replication_model=fields.replication_model,
        name=fields.name,
        description=fields.description,
    )
    pair = await controller_of(request).pairs.create(project_id, wanted)
    return JSONResponse({"replication": pair_created_view(pair)}, 202)


@router.get("", responses={200: {"model": answers.PairList}, **answers.ERRORS})
async def list_pairs(request: Request, project_id: str, query: Annotated[PageQuery, Depends(pair_page)]) -> Response:
    """List pairs; one answer holds up to 1000."""
    page, health = await controller_of(request).pairs.page(project_id, query)
    return JSONResponse({"replications": [pair_view(pair, health.get(pair.group_id or "")) for pair in page.rows]})


@router.get("/{replication_id}", responses={200: {"model": answers.PairOne}, **answers.ERRORS_OF_ONE})
async def show_pair(request: Request, project_id: str, replication_id: str) -> Response:
    """Show a pair."""
    pair, health = await controller_of(request).pairs.show(project_id, replication_id)
    return JSONResponse({"replication": pair_view(pair, health)})


@router.delete("/{replication_id}", status_code=202, responses=answers.ERRORS_OF_ONE)
async def delete_pair(request: Request, project_id: str, replication_id: str) -> Response:
    """Take a pair apart that is in no group; its volumes stay."""
    await controller_of(request).pairs.delete(project_id, replication_id)
    return Response(status_code=202)
