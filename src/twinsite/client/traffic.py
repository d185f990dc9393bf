"""The calls on what groups do."""

from __future__ import annotations

from twinsite.client.groups import GROUPS
from twinsite.client.models import History, Traffic
from twinsite.client.session import Session, fetch, fetch_all
from twinsite.client.steps import Plan

HISTORY_SECONDS_MAX = 3600


def show_history(session: Session, group_id: str, seconds: int = HISTORY_SECONDS_MAX) -> Plan[History]:
    """Return what a group did in the last `seconds` (1 to 3600), as the controller that answers has heard it."""
    path = f"{GROUPS}/{group_id}/history"
    return (yield from fetch(session, History, "history", "GET", path, parameters={"seconds": seconds}))


def list_traffic(session: Session) -> Plan[list[Traffic]]:
    """Return the project's groups with what each does now, the newest first."""
    return (yield from fetch_all(session, Traffic, "traffic", "os-vendor-traffic"))
