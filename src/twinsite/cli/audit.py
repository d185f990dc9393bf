"""`twinsite audit`: who asked for what change, for administrators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, print_items

audit_app = typer.Typer()

RECORDS_DEFAULT = 20
RECORDS_MAX = 1000
"""Most records that the API gives at once."""

_COLUMNS = {
    "created_at": "Time (UTC)",
    "user_name": "User",
    "address": "From",
    "operation": "Operation",
    "object_id": "Object",
    "result": "Result",
    "request_id": "Request",
    "message": "Why not",
}


class Outcome(StrEnum):
    """What came of a request."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@audit_app.command("audit")
def audit(
    object_id: Annotated[
        str | None, typer.Option("--object", metavar="ID", help="Only of this volume, pair, group or other object.")
    ] = None,
    user_id: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only of this user.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="Only this request: req-…, as every answer names it.")
    ] = None,
    result: Annotated[Outcome | None, typer.Option("--result", help="Only those that ended so.")] = None,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="Those of every project.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=RECORDS_MAX, help="How many, the newest first.")
    ] = RECORDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """List who asked for what change in the project and what came of it, refused requests too; for administrators."""
    with open_api(data, cloud) as api:
        found = api.audit_records(
            object_id=object_id,
            user_id=user_id,
            request_id=request_id,
            result=None if result is None else result.value,
            all_projects=all_projects,
            limit=limit,
        )
    print_items(output, found, _COLUMNS)
