"""Error answers: one shape for every fault, as the EVS API reference has it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from twinsite.api.routes import auth_challenge
from twinsite.control.database import storage_trouble
from twinsite.control.refusals import RequestRefused
from twinsite.control.repository.listing import UnknownMarker

_log = structlog.get_logger(__name__)

IDENTITY_PREFIX = "/identity/"
CODE_HEADER = "X-Twinsite-Error-Code"

FAULT_KEYS: Mapping[int, str] = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    407: "proxyAuthenticationRequired",
    408: "requestTimeout",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}

_DEFAULT_CODES: Mapping[int, str] = {
    401: "EVS.5401",
    403: "EVS.5403",
    404: "EVS.5404",
    413: "EVS.5413",
    500: "EVS.5500",
    501: "EVS.5501",
    503: "EVS.5503",
}

FIELD_CODES: Mapping[str, str] = {
    "name": "EVS.1003",
    "description": "EVS.1004",
    "size": "EVS.1010",
    "new_size": "EVS.1010",
    "volume_type": "EVS.1020",
    "availability_zone": "EVS.1036",
    "priority_station": "EVS.1036",
}
"""Codes of the reference for a field that is wrong in itself."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def fault_key(status: int) -> str:
    """Return the one key of the error answer for a status."""
    return FAULT_KEYS.get(status, "computeFault" if status >= 500 else "badRequest")


def fault_body(status: int, code: str, message: str) -> dict[str, dict[str, int | str]]:
    """Return the body of the error answer for a fault."""
    return {fault_key(status): {"code": status, "message": f"{code}: {message}"}}


def fault_response(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, path: str = ""
) -> JSONResponse:
    """Return the error answer for a fault. At a `path` of the identity interface clients look for Keystone's key."""
    body: dict[str, Any] = dict(fault_body(status, code, message))
    if path.startswith(IDENTITY_PREFIX):
        (detail,) = body.values()
        body["error"] = {**detail, "title": HTTPStatus(status).phrase}
    return JSONResponse(body, status, {CODE_HEADER: code, **(headers or {})})


def add_error_handlers(app: FastAPI) -> None:
    """Make every exception that a request can meet an error answer of the one shape."""

    @app.exception_handler(RequestRefused)
    async def refused(request: Request, error: RequestRefused) -> JSONResponse:
        headers = {}
        if error.status == 401:
            headers["WWW-Authenticate"] = auth_challenge(request)
        if error.status == 503:
            headers["Retry-After"] = "5"
        if error.retry_after_seconds is not None:
            headers["Retry-After"] = str(error.retry_after_seconds)
        if error.status == 408:
            headers["Connection"] = "close"  # Nobody will read the rest of it.
        return fault_response(error.status, error.code, error.message, headers, path=request.url.path)

    @app.exception_handler(DBAPIError)
    async def broken(_request: Request, error: DBAPIError) -> JSONResponse:
        trouble = storage_trouble(error)
        if trouble is None:
            raise error
        _log.error("the database cannot be used", error=str(error.orig))
        message = f"The controller's database cannot be used: {trouble}. Nothing was changed; try again later."
        return fault_response(503, "EVS.5503", message, {"Retry-After": "5"})

    @app.exception_handler(UnknownMarker)
    async def lost(_request: Request, error: UnknownMarker) -> JSONResponse:
        return fault_response(
            400, "EVS.1024", f"marker is {str(error.args[0])[:80]!r}, which is no object of the list."
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
        field = next((part for part in reversed(place) if not part.isdigit()), "")
        code = FIELD_CODES.get(field, "EVS.5400")
        where = ".".join(place) or "The body"
        message = str(first["msg"])
        return fault_response(400, code, f"{where}: {message[:1].lower()}{message[1:]}.", path=request.url.path)

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            path = request.url.path
            return fault_response(404, "EVS.5404", f"There is no resource at {path!r}; see /docs.", path=path)
        if error.status_code == 405:
            allowed = ", ".join(allowed_methods(request))
            message = f"{request.method} is not offered here; use {allowed}."
            return fault_response(405, "EVS.5405", message, {"Allow": allowed}, path=request.url.path)
        phrase = str(error.detail) or HTTPStatus(error.status_code).phrase
        code = _DEFAULT_CODES.get(error.status_code, f"EVS.5{error.status_code}")
        return fault_response(error.status_code, code, phrase, error.headers)


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that some route offers at the request's path."""

    def offered(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if offered(method)]
