"""The calls on the audit: who asked for what change, with which result."""

from __future__ import annotations

from twinsite.client.models import AuditRecord
from twinsite.client.session import Session, fetch_list
from twinsite.client.steps import Plan
from twinsite.client.volumes import given


def list_audit_records(
    session: Session,
    *,
    object_id: str | None = None,
    user_id: str | None = None,
    request_id: str | None = None,
    result: str | None = None,
    all_projects: bool = False,
    limit: int = 1000,
) -> Plan[list[AuditRecord]]:
    """Return who asked for what change of the project, or of all projects, the newest first; at most `limit` (1000).

    Those of one object, user or request, and those that were "done", "refused" or "failed", where that is given.
    """
    wanted = given(object_id=object_id, user_id=user_id, request_id=request_id, result=result)
    query = {**wanted, "limit": limit, "all_projects": str(all_projects)}
    return (yield from fetch_list(session, AuditRecord, "audit_records", "os-vendor-audit-records", query))
