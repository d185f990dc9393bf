"""The calls on replication pairs."""

from __future__ import annotations

from collections.abc import Sequence

from twinsite.client.models import Pair
from twinsite.client.session import Session, exchange, fetch, fetch_all
from twinsite.client.steps import Plan
from twinsite.client.volumes import given

PAIRS = "os-vendor-replications"
REPLICATION_MODEL = "hypermetro"
"""The only one that there is."""


def list_pairs(
    session: Session,
    *,
    name: str | None = None,
    status: str | None = None,
    group_id: str | None = None,
    volume_id: str | None = None,
) -> Plan[list[Pair]]:
    """Return the project's pairs, all or those that fit, the newest first."""
    filters = given(name=name, status=status, replication_consistency_group_id=group_id, volume_id=volume_id)
    return (yield from fetch_all(session, Pair, "replications", PAIRS, filters))


def show_pair(session: Session, pair_id: str) -> Plan[Pair]:
    """Return one pair."""
    return (yield from fetch(session, Pair, "replication", "GET", f"{PAIRS}/{pair_id}"))


def create_pair(
    session: Session,
    *,
    volume_ids: Sequence[str],
    priority_station: str,
    name: str | None = None,
    description: str | None = None,
) -> Plan[Pair]:
    """Order a pair of two volumes; the one in `priority_station` is the production disk, the other is overwritten."""
    fields = {
        "volume_ids": list(volume_ids),
        "priority_station": priority_station,
        "replication_model": REPLICATION_MODEL,
        **given(name=name, description=description),
    }
    return (yield from fetch(session, Pair, "replication", "POST", PAIRS, {"replication": fields}))


def delete_pair(session: Session, pair_id: str) -> Plan[None]:
    """Take a pair apart that is in no group; its volumes stay."""
    yield from exchange(session, "DELETE", f"{PAIRS}/{pair_id}")
