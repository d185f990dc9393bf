"""The calls on replication consistency groups, and their actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinsite.client.models import Group, GroupEvent
from twinsite.client.pairs import REPLICATION_MODEL
from twinsite.client.session import Session, exchange, fetch, fetch_all, fetch_list
from twinsite.client.steps import Plan
from twinsite.client.volumes import given

GROUPS = "os-vendor-replication-consistency-groups"
GROUP_KEY = "replication_consistency_group"
SYNC_ACTION = "os-sync-replication-consistency-group"
STOP_ACTION = "os-stop-replication-consistency-group"
FAILOVER_ACTION = "os-failover-replication-consistency-group"
REVERSE_ACTION = "os-reverse-replication-consistency-group"
REPROTECT_ACTION = "os-reprotect-replication-consistency-group"
EXTEND_ACTION = "os-extend-replication-volumes"
FORCE = {"force": True}


def list_groups(
    session: Session,
    *,
    name: str | None = None,
    status: str | None = None,
    priority_station: str | None = None,
    volume_id: str | None = None,
) -> Plan[list[Group]]:
    """Return the project's groups, all or those that fit, the newest first; without their reports."""
    filters = given(name=name, status=status, priority_station=priority_station, volume_id=volume_id)
    return (yield from fetch_all(session, Group, "replication_consistency_groups", GROUPS, filters))


def show_group(session: Session, group_id: str) -> Plan[Group]:
    """Return one group, with what its workers report."""
    return (yield from fetch(session, Group, GROUP_KEY, "GET", f"{GROUPS}/{group_id}"))


def create_group(
    session: Session,
    *,
    pair_ids: Sequence[str],
    priority_station: str,
    name: str | None = None,
    description: str | None = None,
) -> Plan[Group]:
    """Order a group of pairs whose production disks are in `priority_station`. Nothing is copied before a sync."""
    fields = {
        "replication_ids": list(pair_ids),
        "priority_station": priority_station,
        "replication_model": REPLICATION_MODEL,
        **given(name=name, description=description),
    }
    return (yield from fetch(session, Group, GROUP_KEY, "POST", GROUPS, {GROUP_KEY: fields}))


def update_group(
    session: Session,
    group_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    add_pair_ids: Sequence[str] | None = None,
    remove_pair_ids: Sequence[str] | None = None,
) -> Plan[Group]:
    """Change what is given. Pairs move only while the group is paused; it is `updating`, then `available`."""
    fields = given(
        name=name,
        description=description,
        add_replication_ids=list(add_pair_ids) if add_pair_ids else None,
        remove_replication_ids=list(remove_pair_ids) if remove_pair_ids else None,
    )
    return (yield from fetch(session, Group, GROUP_KEY, "PUT", f"{GROUPS}/{group_id}", {GROUP_KEY: fields}))


def delete_group(session: Session, group_id: str) -> Plan[None]:
    """Delete a group that has no pairs left."""
    yield from exchange(session, "DELETE", f"{GROUPS}/{group_id}")


def sync_group(session: Session, group_id: str) -> Plan[None]:
    """Start to synchronize the production disks and the DR disks of all pairs of a group. Safe to repeat."""
    yield from act_on_group(session, group_id, SYNC_ACTION, repeatable=True)


def stop_group(session: Session, group_id: str, *, force: bool = False) -> Plan[None]:
    """Pause the replication of a group; in force when this returns, and safe to repeat.

    `force` lets the primary go on although acknowledged writes may be missing there: a loss that is accepted once, so
    that call is not repeated.
    """
    yield from act_on_group(session, group_id, STOP_ACTION, FORCE if force else None, repeatable=not force)


def failover_group(session: Session, group_id: str, *, force: bool = False, to: str | None = None) -> Plan[None]:
    """Make the DR side of a group primary; `force` accepts the loss that the group's failover outlook states.

    `to` names the site that is to be primary: nothing is done once it is, so that an unforced call is safe to repeat.
    """
    value = {**(FORCE if force else {}), **given(priority_station=to)}
    repeatable = to is not None and not force
    yield from act_on_group(session, group_id, FAILOVER_ACTION, value or None, repeatable=repeatable)


def reverse_group(session: Session, group_id: str, *, to: str | None = None) -> Plan[None]:
    """Start to swap the sites of an active group. Safe to repeat when `to` names the site that is to be primary."""
    value = given(priority_station=to)
    yield from act_on_group(session, group_id, REVERSE_ACTION, value or None, repeatable=to is not None)


def reprotect_group(session: Session, group_id: str) -> Plan[None]:
    """Replicate a group that was failed over from its new primary."""
    yield from act_on_group(session, group_id, REPROTECT_ACTION)


def extend_group(session: Session, group_id: str, sizes_gib: Mapping[str, int]) -> Plan[None]:
    """Give the disks of pairs, by the pairs' ids, new sizes in GiB; done when this returns. Safe to repeat."""
    replications = [{"id": pair_id, "new_size": size_gib} for pair_id, size_gib in sizes_gib.items()]
    yield from act_on_group(session, group_id, EXTEND_ACTION, {"replications": replications}, repeatable=True)


def act_on_group(
    session: Session, group_id: str, action: str, value: object = None, *, repeatable: bool = False
) -> Plan[None]:
    """Call an action of a group by its key; most take null for their value."""
    yield from exchange(session, "POST", f"{GROUPS}/{group_id}/action", {action: value}, repeatable=repeatable)


def list_group_events(session: Session, group_id: str, limit: int = 1000) -> Plan[list[GroupEvent]]:
    """Return a group's newest events, at most `limit` (1000)."""
    return (yield from fetch_list(session, GroupEvent, "events", f"{GROUPS}/{group_id}/events", {"limit": limit}))
