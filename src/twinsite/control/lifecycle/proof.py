"""What is known of whether a failover of a group loses anything, as the API shows it and events keep it."""

from __future__ import annotations

import datetime
from typing import Any

from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.lifecycle.outlook import FailoverOutlook, Loss
from twinsite.control.models import Group


def timestamp(moment: datetime.datetime | None) -> str | None:
    """Return a time as `YYYY-MM-DDTHH:MM:SS.ffffff`."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def epoch_timestamp(seconds: float | None) -> str | None:
    """Return a time that is given in seconds since the epoch, as `timestamp` does."""
    if seconds is None:
        return None
    return timestamp(datetime.datetime.fromtimestamp(seconds, datetime.UTC))


def loss_proof(loss: Loss | None) -> dict[str, Any] | None:
    """Return what a forced failover would lose."""
    if loss is None:
        return None
    return {
        "since": epoch_timestamp(loss.since),
        "bytes_at_most": loss.bytes_at_most,
        "bytes_last_reported": loss.bytes_last_reported,
        "unflushed": loss.unflushed,
        "description": str(loss),
    }


def failover_proof(outlook: FailoverOutlook) -> dict[str, Any]:
    """Return whether a failover is possible, and what a forced one would lose."""
    return {"possible": outlook.possible, "reason": outlook.reason, "loss": loss_proof(outlook.loss)}


def proof_of(group: Group, health: GroupHealth) -> dict[str, Any]:
    """Return the arbiter's record of a group, and both workers' last words."""
    worker, primary, secondary = health.status, health.last_primary, health.last_secondary
    return {
        "term": group.arbiter.term,
        "primary_station": group.arbiter.primary_site,
        "secondary_station": group.secondary_station,
        "secondary": group.arbiter.secondary,
        "stale_since": epoch_timestamp(group.arbiter.stale_since),
        "in_sync_since": epoch_timestamp(worker.in_sync_since) if worker is not None else None,
        "holding_since": epoch_timestamp(worker.holding_since) if worker is not None else None,
        "last_acknowledged_sequence": primary.acknowledged_sequence if primary is not None else None,
        "last_applied_sequence": secondary.acknowledged_sequence if secondary is not None else None,
        "failover": failover_proof(health.failover),
    }
