"""What nodes call. Not for clients, and not part of the OpenAPI page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api.routes import NODE_REPORT_BYTES_MAX, NodeRoute, controller_of, parse_json, read_body
from twinsite.control.refusals import bad_request
from twinsite.errors import PeerViolation
from twinsite.messages import NodeReport, from_wire, to_wire

router = APIRouter(prefix="/internal/v1", route_class=NodeRoute, include_in_schema=False)


@router.post("/nodes/{site}/sync")
async def sync_node(request: Request, site: str) -> Response:
    """Take a node's report in, and answer what its site should be once the node has not seen that yet."""
    body = parse_json(await read_body(request, NODE_REPORT_BYTES_MAX))
    try:
        report = from_wire(NodeReport, body, "report")
    except PeerViolation as error:
        raise bad_request(str(error)) from None
    if report.site != site:
        raise bad_request(f"The report is of site {report.site!r}, the URL says {site!r}.")
    desired = await controller_of(request).reconciler.sync(report, request.is_disconnected)
    return JSONResponse(to_wire(desired))
