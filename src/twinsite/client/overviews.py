"""How everything is at one look, and what an action on a group would do: the calls and their answers."""

from __future__ import annotations

from twinsite.client.groups import GROUPS
from twinsite.client.models import Advice, Failover, Loss, Model, Progress, Timestamp
from twinsite.client.session import PAGES_MAX, Session, fetch
from twinsite.client.steps import Plan
from twinsite.errors import PeerViolation

OVERVIEW = "os-vendor-overview"


class ActionPlan(Model):
    """What an action would do if it came now. `reason` says why it would be refused.

    `needs_force`: it is refused as it is, and `steps` are those of the forced one.
    """

    action: str
    group_id: str
    group_name: str | None
    allowed: bool
    due: bool
    reason: str | None
    needs_force: bool
    from_site: str | None
    to_site: str | None
    steps: list[str]
    loss: Loss | None
    loss_text: str | None
    first: list[str]
    hosts: str | None

    @property
    def asks_for_name(self) -> bool:
        """Say whether a person types the group's name before it is done.

        Every action that moves or pauses a group asks, and so does any other that would lose or overwrite something: a
        synchronization of a group that was failed over protects it again.
        """
        return self.due and (self.action != "sync" or self.loss_text is not None)


class SiteOverview(Model):
    """A site: "connected", "silent", "lost" or "new". Pools are None for those who may not see them."""

    name: str
    state: str
    node_name: str | None
    connected: bool
    last_seen_at: Timestamp | None
    pool_total_bytes: int | None
    pool_free_bytes: int | None
    groups_primary: int


class GroupOverview(Model):
    """A group, and what is the matter with it, the worst first."""

    id: str
    name: str | None
    status: str
    replication_status: str
    fault_level: str
    primary_site: str
    secondary_site: str
    mode: str | None
    in_sync_since: Timestamp | None
    stale_since: Timestamp | None
    holding_since: Timestamp | None
    dirty_bytes: int | None
    progress: Progress
    failover: Failover
    failure_detail: str | None
    advice: list[Advice]


class Overview(Model):
    """All sites and groups at one moment; `truncated`: there are more groups."""

    sites: list[SiteOverview]
    groups: list[GroupOverview]
    truncated: bool


def plan_group(
    session: Session, group_id: str, action: str, *, force: bool = False, to: str | None = None
) -> Plan[ActionPlan]:
    """Return what an action would do, without doing it.

    `action` is failover, reverse, reprotect, stop or sync; `to` the site that a move is to make primary.
    """
    parameters = {"action": action, "force": str(force).lower(), **({"priority_station": to} if to else {})}
    path = f"{GROUPS}/{group_id}/plan"
    return (yield from fetch(session, ActionPlan, "plan", "GET", path, parameters=parameters))


def show_overview(session: Session) -> Plan[Overview]:
    """Return how all sites and groups are. Of a very long list each page is of a moment of its own."""
    groups: list[GroupOverview] = []
    for _ in range(PAGES_MAX):
        place = {"marker": groups[-1].id} if groups else {}
        page = yield from fetch(session, Overview, "overview", "GET", OVERVIEW, parameters=place)
        groups += page.groups
        if not page.truncated or not page.groups:
            return page.model_copy(update={"groups": groups, "truncated": False})
    raise PeerViolation(f"GET {OVERVIEW} never stops answering more groups")
