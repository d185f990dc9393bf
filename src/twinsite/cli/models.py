"""The shapes of the API's answers that the command line reads; field by field as the API guide says."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Volume(TypedDict):
    """A volume, as `GET /volumes/{id}` answers it."""

    id: str
    name: str
    status: str
    size: int  # GiB
    availability_zone: str
    volume_type: str
    description: NotRequired[str | None]
    attachments: NotRequired[list[dict[str, Any]]]
    replication_status: NotRequired[str | None]


class Pair(TypedDict):
    """A replication pair. `volume_ids` is one string, ids joined by a comma; `progress` a percentage as text."""

    id: str
    name: str
    status: str
    volume_ids: str
    priority_station: str
    replication_consistency_group_id: str | None
    replication_status: NotRequired[str | None]
    progress: NotRequired[str | None]
    failure_detail: NotRequired[str | None]
    fault_level: NotRequired[str | None]


class Progress(TypedDict):
    """How far a resync is. Bytes are of volume content."""

    bytes_total: int
    bytes_done: int
    percent: float | None
    bytes_per_second: float | None
    seconds_left: float | None


class Resync(TypedDict):
    """The running resync, or the last one."""

    kind: str
    bytes_total: int
    bytes_shipped: int
    bytes_zero: int
    started_at: str | None
    finished_at: str | None


class Loss(TypedDict):
    """What a forced failover would give up; None for what nobody knows."""

    since: str | None
    bytes_at_most: int | None
    unflushed: bool
    description: str


class Failover(TypedDict):
    """Whether an unforced failover is possible now, why not, and what a forced one would lose."""

    possible: bool
    reason: str | None
    loss: Loss | None


class GroupReport(TypedDict):
    """The object `twinsite` of a group: what its workers observe, and what the arbiter has recorded."""

    mode: str | None
    term: int
    primary_station: str
    secondary_station: str
    secondary: str  # "in_sync" or "stale"
    stale_since: str | None
    holding_since: str | None
    last_acknowledged_sequence: int | None
    last_applied_sequence: int | None
    failover: Failover
    failure: dict[str, str] | None
    progress: Progress | None
    dirty_bytes: int | None
    in_sync_since: str | None
    last_resync: Resync | None
    members: NotRequired[list[dict[str, Any]]]
    counters: NotRequired[dict[str, Any]]


class Group(TypedDict):
    """A replication consistency group."""

    id: str
    name: str
    status: str
    priority_station: str
    description: NotRequired[str | None]
    replication_ids: NotRequired[list[str]]
    replication_status: NotRequired[str | None]
    failure_detail: NotRequired[str | None]
    fault_level: NotRequired[str | None]
    twinsite: NotRequired[GroupReport]


class GroupEvent(TypedDict):
    """What was done to a group, or happened to it. `proof` is as in `GroupReport`, of that time."""

    id: str
    created_at: str
    actor: str
    user_id: str | None
    action: str
    result: str
    message: str | None
    before: dict[str, Any] | None
    after: dict[str, Any]
    proof: dict[str, Any]


class Site(TypedDict):
    """An availability zone, as administrators see it."""

    name: str
    connected: bool
    node_name: str | None
    last_seen_at: str | None
    lost_at: str | None
    pool_total_bytes: int
    pool_free_bytes: int
    volumes: int
    to_remove: int


class ConnectionInfo(TypedDict):
    """What a host needs to open a volume: NBD URIs that stay the same for the volume's whole life."""

    driver_volume_type: str
    data: dict[str, Any]


def pair_volume_ids(pair: Pair) -> list[str]:
    """Return the ids of a pair's two volumes, in the order submitted."""
    return [part.strip() for part in pair["volume_ids"].split(",")]


def connection_uris(connection: ConnectionInfo) -> list[str]:
    """Return all NBD URIs of a connection, the preferred one first."""
    data = connection["data"]
    return [str(uri) for uri in data.get("uris") or [data["uri"]]]


def group_mode(group: Group) -> str | None:
    """Return what the group's primary worker does, None as long as the API does not know."""
    report = group.get("twinsite")
    return report.get("mode") if report else None
