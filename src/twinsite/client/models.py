"""What the API answers, as objects; field by field as the API guide says, which docs/api.md is.

Fields that a newer API adds are kept: `as_json` gives back the API's own object. Times are in UTC, with that zone.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

TIMESTAMP_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


Timestamp = Annotated[
    datetime.datetime,
    AfterValidator(_in_utc),
    PlainSerializer(lambda moment: moment.strftime(TIMESTAMP_FORMAT), return_type=str),
]
"""On the wire a text without a zone."""

Percent = Annotated[int, PlainSerializer(str, return_type=str)]
"""On the wire a text."""

JoinedIds = Annotated[
    list[str],
    BeforeValidator(lambda text: [part.strip() for part in text.split(",")] if isinstance(text, str) else text),
    PlainSerializer(",".join, return_type=str),
]
"""On the wire one text, ids joined by a comma."""


class Model(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def as_json(self) -> dict[str, Any]:
        """Return the object as the API gave it."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Failure(Model):
    """Why something cannot go on: a documented code and a sentence."""

    code: str
    message: str


class Attachment(Model):
    """A host that uses a volume."""

    id: str
    host_name: str | None = None
    attached_at: Timestamp | None = None


class Volume(Model):
    """A disk; `size` is in GiB."""

    id: str
    name: str | None
    status: str
    size: int
    availability_zone: str
    volume_type: str
    description: str | None = None
    multiattach: bool = False
    metadata: dict[str, str] = {}
    attachments: list[Attachment] = []
    replication_status: str | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


class VolumeType(Model):
    """A kind of volume that the operator offers."""

    id: str
    name: str


class ZoneState(Model):
    """Whether a zone can be used."""

    available: bool


class Zone(Model):
    """An availability zone: a site."""

    zoneName: str  # noqa: N815 - the name on the wire.
    zoneState: ZoneState  # noqa: N815 - the name on the wire.

    @property
    def name(self) -> str:
        """Return the zone's name."""
        return self.zoneName

    @property
    def is_available(self) -> bool:
        """Say whether its node is connected."""
        return self.zoneState.available


class ConnectionData(Model):
    """How a host reaches a volume."""

    uri: str
    uris: list[str] = []


class Connection(Model):
    """What a host needs to open a volume: NBD URIs that stay the same for the volume's whole life."""

    driver_volume_type: str
    data: ConnectionData

    @property
    def uris(self) -> list[str]:
        """Return all URIs, the preferred one first."""
        return self.data.uris or [self.data.uri]


class Pair(Model):
    """A production disk and its DR disk. `volume_ids` are in the order in which they were submitted."""

    id: str
    name: str | None
    status: str
    volume_ids: JoinedIds
    priority_station: str
    replication_consistency_group_id: str | None
    description: str | None = None
    replication_model: str | None = None
    replication_status: str | None = None
    progress: Percent | None = None
    failure_detail: str | None = None
    fault_level: str | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


class Progress(Model):
    """How far a resync is. Bytes are of volume content; `seconds_left` is an estimate."""

    bytes_total: int
    bytes_done: int
    percent: int | None
    bytes_per_second: float | None
    seconds_left: float | None


class Resync(Model):
    """The running resync, or the last one."""

    kind: str
    bytes_total: int
    bytes_shipped: int
    bytes_zero: int
    started_at: Timestamp | None
    finished_at: Timestamp | None


class Loss(Model):
    """What a forced failover would give up; None for what nobody knows."""

    since: Timestamp | None
    bytes_at_most: int | None
    bytes_last_reported: int | None = None
    unflushed: bool
    description: str


class Failover(Model):
    """Whether an unforced failover is possible now, why not, and what a forced one would lose."""

    possible: bool
    reason: str | None
    loss: Loss | None

    @property
    def in_retrospect(self) -> str:
        """Return what a failover would have cost at the time that this is of, in words."""
        if self.loss is not None:
            return f"a failover would have lost {self.loss.description}"
        if self.possible:
            return "a failover would have lost nothing"
        return f"no failover was possible: {self.reason}"


class Proof(Model):
    """What is known of whether a failover loses anything. `secondary` is "in_sync" or "stale"."""

    term: int
    primary_station: str
    secondary_station: str
    secondary: str
    stale_since: Timestamp | None
    in_sync_since: Timestamp | None
    holding_since: Timestamp | None
    last_acknowledged_sequence: int | None
    last_applied_sequence: int | None
    failover: Failover


class Member(Model):
    """One pair of a group, as the primary's worker sees it."""

    replication_id: str
    production_volume_id: str
    dr_volume_id: str
    replication_status: str
    bytes_total: int
    bytes_done: int
    dirty_bytes: int
    failure: Failure | None


class Advice(Model):
    """What is the matter with a group, and the command for it if there is one.

    `severity` is "ok", "notice", "warning" or "critical".
    """

    severity: str
    text: str
    command: str | None = None


class KeptWrites(Model):
    """What a former primary site alone had: a log on the machine of that site, of `size_bytes` bytes."""

    site: str
    path: str
    overwritten_at: Timestamp
    size_bytes: int


class GroupReport(Proof):
    """What a group's workers observe, and what the arbiter has recorded. `mode` is what the primary's worker does."""

    mode: str | None
    failure: Failure | None
    progress: Progress
    dirty_bytes: int
    last_resync: Resync | None
    members: list[Member] = []
    kept_writes: list[KeptWrites] = []
    advice: list[Advice] = []


class Group(Model):
    """A replication consistency group. Only the object itself has a report (`twinsite`), lists have not."""

    id: str
    name: str | None
    status: str
    priority_station: str
    description: str | None = None
    replication_model: str | None = None
    replication_ids: list[str] = []
    replication_status: str | None = None
    failure_detail: str | None = None
    fault_level: str | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    twinsite: GroupReport | None = None

    @property
    def mode(self) -> str | None:
        """Return what the group's primary worker does, None as long as the API does not know."""
        return self.twinsite.mode if self.twinsite is not None else None


class GroupEvent(Model):
    """What was done to a group, or happened to it. `proof` is what was known at that time."""

    id: str
    group_id: str
    number: int
    created_at: Timestamp
    kinds: list[str]
    actor: str
    user_id: str | None
    request_id: str | None
    action: str
    result: str
    message: str | None
    before: dict[str, Any] | None
    after: dict[str, Any]
    proof: Proof


class FeedEvent(GroupEvent):
    """An event of one of a project's groups. `position` is its place among all events."""

    group_name: str | None
    position: int


class Webhook(Model):
    """Where events are sent; those that have one of its kinds, all when there is none."""

    id: str
    name: str | None
    url: str
    kinds: list[str]
    created_at: Timestamp


class Delivery(Model):
    """Something that is to be sent to a webhook (`state` is "pending"), was ("delivered"), or was "given_up"."""

    id: str
    webhook_id: str
    event_id: str | None
    kinds: list[str]
    state: str
    attempts: int
    due_at: Timestamp | None
    created_at: Timestamp
    finished_at: Timestamp | None
    answer_status: int | None
    trouble: str | None


class AuditRecord(Model):
    """A request that was to change something: `result` is "done", "refused" or "failed", `operation` names its rule."""

    id: str
    created_at: Timestamp
    project_id: str
    request_id: str
    user_id: str
    user_name: str
    address: str
    operation: str
    object_id: str | None
    result: str
    status: int
    message: str | None


class Sample(Model):
    """What a group did in the time before `at`, and how it was at the end of it.

    `ack_seconds` is the mean time from a write's arrival to its acknowledgement, None when there was none.
    """

    at: Timestamp
    writes_per_second: float
    write_bytes_per_second: float
    reads_per_second: float
    read_bytes_per_second: float
    sent_bytes_per_second: float
    ack_seconds: float | None
    dirty_bytes: int
    resync_bytes_left: int
    holding: bool


class History(Model):
    """A group's samples, the oldest first; none for times at which its primary was not heard of."""

    interval_seconds: int
    samples: list[Sample]


class Traffic(Model):
    """A group and what it does now; `now` is None while its primary is not heard of."""

    id: str
    name: str | None
    status: str
    replication_status: str
    fault_level: str
    priority_station: str
    secondary_station: str
    mode: str | None
    holding_since: Timestamp | None
    progress: Progress
    now: Sample | None


class Site(Model):
    """An availability zone, as administrators see it."""

    name: str
    connected: bool
    node_name: str | None
    last_seen_at: Timestamp | None
    lost_at: Timestamp | None
    pool_total_bytes: int
    pool_free_bytes: int
    volumes: int
    to_remove: int
