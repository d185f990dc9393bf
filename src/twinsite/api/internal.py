"""What nodes and workers call. Not for clients, and not part of the OpenAPI page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api.bodies import BODY_BYTES_MAX, NODE_REPORT_BYTES_MAX, check_json, parse_json, read_body
from twinsite.api.routes import NodeRoute, WorkerRoute, controller_of
from twinsite.control.actor import Actor, current_actor, known_request
from twinsite.control.arbiter_store import Question
from twinsite.control.refusals import bad_request
from twinsite.core.arbiter import Refusal
from twinsite.errors import PeerViolation
from twinsite.messages import NodeReport, from_wire, to_wire

router = APIRouter(prefix="/internal/v1", route_class=NodeRoute, include_in_schema=False)
worker_router = APIRouter(prefix="/internal/v1", route_class=WorkerRoute, include_in_schema=False)


@router.post("/nodes/{site}/sync")
async def sync_node(request: Request, site: str) -> Response:
    """Take a node's report in, and answer what its site should be once the node has not seen that yet."""
    seconds_max = controller_of(request).settings.body_seconds_max
    body = parse_json(await read_body(request, NODE_REPORT_BYTES_MAX, seconds_max))
    try:
        report = from_wire(NodeReport, body, "report")
    except PeerViolation as error:
        raise bad_request(str(error)) from None
    if report.site != site:
        raise bad_request(f"The report is of site {report.site!r}, the URL says {site!r}.")
    desired = await controller_of(request).reconciler.sync(report, request.is_disconnected)
    return JSONResponse(to_wire(desired))


@worker_router.post("/groups/{group_id}/arbiter")
async def ask_arbiter(request: Request, group_id: str) -> Response:
    """Answer a worker's question about its group. A grant is durable before it is answered."""
    body = parse_json(await read_body(request, BODY_BYTES_MAX, controller_of(request).settings.body_seconds_max))
    check_json(body)
    try:
        question = from_wire(Question, body, "question")
    except PeerViolation as error:
        raise bad_request(str(error)) from None
    current_actor.set(Actor(f"worker in {question.site}"[:255], request_id=known_request(question.request_id)))
    answer = await controller_of(request).arbiter.answer(group_id, question)
    refused = isinstance(answer, Refusal)
    row = answer.row if isinstance(answer, Refusal) else answer
    reason = answer.reason.value if isinstance(answer, Refusal) else None
    return JSONResponse({"granted": not refused, "reason": reason, "row": to_wire(row)})
