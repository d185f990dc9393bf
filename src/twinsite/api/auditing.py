"""Turns a request and how it ended into a record of the audit."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from twinsite.control.audit_entry import Entry
from twinsite.control.caller import Caller
from twinsite.control.database import storage_trouble
from twinsite.control.refusals import RequestRefused

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
GROUP_PARAMETER = "replication_consistency_group_id"


def entry_of(
    request: Request, caller: Caller, operation: str, object_id: str | None, outcome: Response | Exception
) -> Entry:
    """Return the record of a request. `object_id` is what the path names; a new object's is in the answer."""
    status, message = _ending(outcome)
    if object_id is None and isinstance(outcome, Response):
        object_id = _made(outcome)
    return Entry(
        request_id=str(request.state.request_id),
        # A token without a project is good for little; what its user asks for is kept under the user.
        project_id=caller.project_id or caller.domain_id or caller.user_id,
        user_id=caller.user_id,
        user_name=caller.user_name,
        address=request.client.host if request.client is not None else "",
        operation=operation,
        object_id=object_id,
        status=status,
        message=message,
        group_id=request.path_params.get(GROUP_PARAMETER),
    )


def _ending(outcome: Response | Exception) -> tuple[int, str | None]:
    """Return the status of the answer, and why it is none of success."""
    match outcome:
        case Response():
            return outcome.status_code, None
        case RequestRefused():
            return outcome.status, f"{outcome.code}: {outcome.message}"
        case RequestValidationError():
            first = outcome.errors()[0]
            return 400, f"EVS.5400: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        case HTTPException():
            return outcome.status_code, str(outcome.detail)
        case DBAPIError() if (trouble := storage_trouble(outcome)) is not None:
            return 503, f"EVS.5503: the database cannot be used: {trouble}"
    return 500, "EVS.5500: an internal error; the controller's log has it under the request's id"


def _made(answer: Response) -> str | None:
    """Return the id of what a request has made, as its answer shows it."""
    try:
        shown: Any = json.loads(bytes(answer.body))
        made = next(iter(shown.values()))["id"]
    except (AttributeError, ValueError, TypeError, KeyError, StopIteration):
        return None
    return made if isinstance(made, str) else None
