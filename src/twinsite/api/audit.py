"""The audit of a project: who asked for what change, with which result."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, WithJsonSchema

from twinsite.api import answers
from twinsite.api.filters import Flag, check_choice, flag_of
from twinsite.api.listing import PlaceQuery, place_query
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of, require
from twinsite.control.audit_entry import DONE, FAILED, REFUSED
from twinsite.control.lifecycle.proof import timestamp
from twinsite.control.models import AuditRecord

_RESULT = WithJsonSchema({"type": "string", "enum": [DONE, REFUSED, FAILED]})

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-audit-records",
    tags=["Audit"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)


class AuditRecordAnswer(answers.Answer):
    """A request that was to change something."""

    id: str
    created_at: str
    project_id: str = Field(description="Of the token; of its domain or user, where it has no project.")
    request_id: str = Field(description="The same as x-openstack-request-id of its answer.")
    user_id: str
    user_name: str
    address: str = Field(description="Where the request came from.")
    operation: str = Field(description="The name of its rule.", examples=["replication_consistency_groups:sync"])
    object_id: str | None
    result: str = Field(description="done; refused (4xx); failed (5xx).")
    status: int = Field(description="Of the answer.")
    message: str | None = Field(description="Why it was not done.")


class AuditRecordList(answers.Answer):
    """A page of records, the newest first."""

    audit_records: list[AuditRecordAnswer]


@router.get("", responses={200: {"model": AuditRecordList}, **answers.ERRORS_OF_ADMIN})
async def list_audit_records(
    request: Request,
    project_id: str,
    place: Annotated[PlaceQuery, Depends(place_query)],
    object_id: Annotated[str | None, Query(description="Of one object.")] = None,
    user_id: Annotated[str | None, Query(description="Of one user.")] = None,
    request_id: Annotated[str | None, Query(description="Of one request.")] = None,
    result: Annotated[str | None, Query(description="How it ended."), _RESULT] = None,
    all_projects: Annotated[Flag, Query(description="True for those of all projects; for administrators.")] = None,
) -> Response:
    """List who asked for what change with the project's tokens, the newest first; refused requests too."""
    everywhere = flag_of("all_projects", all_projects)
    if result is not None:
        check_choice("result", result, (DONE, REFUSED, FAILED))
    if everywhere:
        require(request, "audit_records:get_any")
    wanted = {"object_id": object_id, "user_id": user_id, "request_id": request_id, "result": result}
    equal = {column: value for column, value in wanted.items() if value is not None}
    audit = controller_of(request).audit
    records = await audit.page(None if everywhere else project_id, equal, place.marker, place.limit, place.offset)
    return JSONResponse({"audit_records": [_view(record) for record in records]})


def _view(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "created_at": timestamp(record.created_at),
        "project_id": record.project_id,
        "request_id": record.request_id,
        "user_id": record.user_id,
        "user_name": record.user_name,
        "address": record.address,
        "operation": record.operation,
        "object_id": record.object_id,
        "result": record.result,
        "status": record.status,
        "message": record.message,
    }
