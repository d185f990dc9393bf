"""Bodies that clients get, for the OpenAPI page; tests hold the real answers to them. `views` makes the answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Root of what clients get."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Fault(Answer):
    """What went wrong; `message` starts with a documented code."""

    code: int
    message: str


class FaultAnswer(BaseModel):
    """An error: one key, named after the kind of fault (badRequest, itemNotFound …)."""

    badRequest: Fault  # noqa: N815 - the name on the wire.


class Link(Answer):
    """A link to an object or a page."""

    rel: str
    href: str


class AttachmentAnswer(Answer):
    """A host that uses a volume."""

    id: str
    attachment_id: str
    volume_id: str
    server_id: str | None
    host_name: str
    device: str | None
    attached_at: str


class FailureAnswer(Answer):
    """Why something cannot go on."""

    code: str
    message: str


class VolumeExtras(Answer):
    """What only this implementation tells of a volume."""

    replication_id: str | None = Field(description="The pair that the volume is part of.")
    failure: FailureAnswer | None


class VolumeAnswer(Answer):
    """A volume, as Cinder shows it. Sizes are in GiB, times UTC without a zone."""

    id: str
    name: str | None
    description: str | None
    status: str
    size: int
    availability_zone: str
    volume_type: str
    bootable: str
    encrypted: bool
    multiattach: bool
    metadata: dict[str, str]
    attachments: list[AttachmentAnswer]
    links: list[Link]
    snapshot_id: None
    source_volid: None
    consistencygroup_id: None
    replication_status: str
    created_at: str
    updated_at: str | None
    user_id: str
    tenant: str = Field(alias="os-vol-tenant-attr:tenant_id")
    twinsite: VolumeExtras


class VolumeOne(Answer):
    """One volume."""

    volume: VolumeAnswer


class VolumeSummary(Answer):
    """A volume in the short list."""

    id: str
    name: str | None
    links: list[Link]


class VolumeList(Answer):
    """The short list; `volumes_links` only while more follow."""

    volumes: list[VolumeSummary]
    volumes_links: list[Link] = []


class VolumeDetailList(Answer):
    """The long list; `volumes_links` only while more follow."""

    volumes: list[VolumeAnswer]
    volumes_links: list[Link] = []


class VolumeSummaryFigures(Answer):
    """How many volumes a project has, and their GiB together."""

    total_count: int
    total_size: int


class VolumeSummaryOne(Answer):
    """The figures of a project."""

    summary: VolumeSummaryFigures = Field(alias="volume-summary")


class Metadata(Answer):
    """All metadata of a volume."""

    metadata: dict[str, str]


class MetadataEntry(Answer):
    """One entry of a volume's metadata."""

    meta: dict[str, str]


class Tags(Answer):
    """All tags of a volume."""

    tags: dict[str, str]


class Tag(Answer):
    """One tag of a volume."""

    tag: dict[str, str]


class TagValues(Answer):
    """All tags of the project's volumes: the values of each key."""

    tags: dict[str, list[str]]


class TaggedResource(Answer):
    """A volume that a search by tags found."""

    resource_id: str
    resource_name: str | None
    resource_detail: VolumeAnswer
    tags: dict[str, str]


class TaggedResources(Answer):
    """What a search by tags found: how many, and the newest 1000."""

    total_count: int
    resources: list[TaggedResource]


class PairCreated(Answer):
    """A pair right after its creation."""

    id: str
    name: str | None
    description: str | None
    status: str
    replication_consistency_group_id: str | None
    volume_ids: str = Field(description="Two ids, joined by a comma, in the order that was submitted.")
    priority_station: str
    created_at: str
    updated_at: str | None


class PairAnswer(PairCreated):
    """A pair."""

    replication_model: str
    replication_status: str
    progress: str | None = Field(description="Percent.", examples=["42"])
    failure_detail: str | None
    record_metadata: str = Field(description="JSON in a string.")
    fault_level: str = Field(description='"0" none, "2" production side fails, "5" link down.')


class PairCreatedOne(Answer):
    """A new pair."""

    replication: PairCreated


class PairOne(Answer):
    """One pair."""

    replication: PairAnswer


class PairList(Answer):
    """All pairs asked for."""

    replications: list[PairAnswer]


class ProgressAnswer(Answer):
    """How far the resync is. `seconds_left` is an estimate."""

    bytes_total: int
    bytes_done: int
    percent: int | None
    bytes_per_second: float | None
    seconds_left: float | None


class ResyncAnswer(Answer):
    """The running resync, or the last one."""

    kind: str
    started_at: str
    finished_at: str | None
    bytes_total: int
    bytes_done: int
    bytes_shipped: int
    bytes_zero: int
    bytes_per_second: float
    seconds_left: float | None


class KeptAnswer(Answer):
    """A log of what a former primary site alone had, on the machine of that site: for `twinsite kept`."""

    site: str
    path: str
    overwritten_at: str = Field(description="When it began to be overwritten.")
    size_bytes: int = Field(description="Of the log.")


class MemberAnswer(Answer):
    """One pair of the group, as the primary worker sees it."""

    replication_id: str
    production_volume_id: str
    dr_volume_id: str
    index: int
    serving: bool
    replication_status: str
    bytes_total: int
    bytes_done: int
    dirty_bytes: int
    failure: FailureAnswer | None


class LossAnswer(Answer):
    """What a forced failover would give up: all writes since then, and how many bytes that is at most, if known."""

    since: str | None
    bytes_at_most: int | None = Field(description="As the primary reports. Null while it is not heard of.")
    bytes_last_reported: int | None = Field(
        description="The primary's last word, also when it is not heard of any more; it may have gone on serving hosts."
    )
    unflushed: bool = Field(
        description="Acknowledged writes that no host has flushed may be missing there: its machine restarted, or a "
        "flush failed, before they were durable."
    )
    description: str


class FailoverAnswer(Answer):
    """Whether an unforced failover is possible now."""

    possible: bool
    reason: str | None = Field(description="Why it is not.")
    loss: LossAnswer | None = Field(description="Null when the DR side has everything.")


class Proof(Answer):
    """What is known of whether a failover loses anything."""

    term: int = Field(description="Grows with each failover and switchover.")
    primary_station: str = Field(description="Who may acknowledge writes, as the arbiter has recorded it.")
    secondary_station: str
    secondary: str = Field(description="in_sync: the DR side has every acknowledged write; stale: it may not.")
    stale_since: str | None
    in_sync_since: str | None
    holding_since: str | None = Field(description="Since when writes wait for the DR side or for the arbiter.")
    last_acknowledged_sequence: int | None = Field(description="As the primary last reported.")
    last_applied_sequence: int | None = Field(description="As the secondary last reported.")
    failover: FailoverAnswer


class EventState(Answer):
    """How a group was."""

    status: str
    replication: str
    replication_status: str
    fault_level: str
    holding: bool = Field(description="Hosts wait for the DR side or for the arbiter.")
    primary_station: str
    term: int
    secondary: str
    pairs: int
    size_gib: int = Field(description="Of all production disks together.")
    failover_possible: bool | None = Field(None, description="Without loss. Events of older releases lack this.")
    connected: list[str] | None = Field(None, description="Which of the group's two sites had their nodes there.")
    failing_disks: list[str] | None = Field(None, description="Volumes of either side that fail.")


class EventAnswer(Answer):
    """What was done to a group, or happened to it."""

    id: str
    group_id: str
    number: int = Field(description="Within the group, from 1 on.")
    created_at: str
    kinds: list[str] = Field(description="What it is, in the words that webhooks filter by; see docs/events.md.")
    actor: str = Field(description="A user's name, or the part of the installation that noticed it.")
    user_id: str | None
    request_id: str | None = Field(description="Of the request that it was recorded with, or follows from.")
    action: str = Field(
        description="Create, update, sync, stop, failover, reverse, reprotect, extend, delete; restored: the database "
        'was, and a worker knew more; action: what there is not was asked for; else "observed".'
    )
    result: str = Field(description="accepted: the rest follows by itself; done; failed; refused.")
    message: str | None
    before: EventState | None = Field(description="How the event before this one left the group.")
    after: EventState
    proof: Proof = Field(description="As known at that time; of a failover, before it.")


class EventList(Answer):
    """A page of a group's events, the newest first."""

    events: list[EventAnswer]


class AdviceAnswer(Answer):
    """What is the matter with a group, and what to do about it."""

    severity: str = Field(description="ok, notice, warning or critical.")
    text: str
    command: str | None = Field(description="What to type for it, where that is one command.")


class FeedEventAnswer(EventAnswer):
    """An event of one of a project's groups."""

    group_name: str | None
    position: int | None = Field(description="Among all events; what Last-Event-ID takes.")


class FeedEventList(Answer):
    """A page of the events of all of a project's groups, the newest first."""

    events: list[FeedEventAnswer]


class GroupExtras(Proof):
    """What only this implementation tells of a group."""

    mode: str | None = Field(description="What the primary worker is doing; null while it is not there.")
    replication: str = Field(description="The last wish: running, paused, or handover during a switchover.")
    failure: FailureAnswer | None = Field(description="What is wrong, of what passes by itself too.")
    progress: ProgressAnswer
    dirty_bytes: int
    last_resync: ResyncAnswer | None
    counters: dict[str, int] | None
    members: list[MemberAnswer]
    kept_writes: list[KeptAnswer] = Field(description="What either site alone had before it was overwritten.")
    advice: list[AdviceAnswer] = Field(description="The worst first; there is always something.")


class GroupCreated(Answer):
    """A group right after its creation or change."""

    id: str
    name: str | None
    description: str | None
    status: str
    priority_station: str
    replication_model: str
    replication_status: str
    replication_ids: list[str]
    failure_detail: str | None
    fault_level: str
    created_at: str
    updated_at: str | None


class GroupAnswer(GroupCreated):
    """A group."""

    twinsite: GroupExtras


class GroupCreatedOne(Answer):
    """A new or changed group."""

    replication_consistency_group: GroupCreated


class GroupOne(Answer):
    """One group."""

    replication_consistency_group: GroupAnswer


class GroupList(Answer):
    """All groups asked for."""

    replication_consistency_groups: list[GroupCreated]


class SiteAnswer(Answer):
    """An availability zone and its node."""

    name: str
    connected: bool
    node_name: str | None
    last_seen_at: str | None
    lost_at: str | None = Field(description="When it was given up.")
    pool_total_bytes: int
    pool_free_bytes: int
    volumes: int
    to_remove: int = Field(description="What its node still has to remove, of what was deleted meanwhile.")


class SiteList(Answer):
    """All sites."""

    sites: list[SiteAnswer]


class ConnectionData(Answer):
    """How a host reaches a volume; the URIs never change."""

    volume_id: str
    export: str
    uri: str
    uris: list[str]
    transports: list[dict[str, str]]


class ConnectionInfo(Answer):
    """What Cinder calls connection information."""

    driver_volume_type: str
    data: ConnectionData


class ConnectionOne(Answer):
    """Answer to os-initialize_connection."""

    connection_info: ConnectionInfo


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": FaultAnswer, "description": "Malformed, or not allowed in this state; the message says what to do."},
    401: {"model": FaultAnswer, "description": "No token, or an expired one."},
}
ERRORS_OF_ONE: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    404: {"model": FaultAnswer, "description": "No such object in this project."},
}
ERRORS_OF_CHANGE: dict[int | str, dict[str, Any]] = {
    **ERRORS_OF_ONE,
    409: {"model": FaultAnswer, "description": "A concurrent change won."},
    503: {"model": FaultAnswer, "description": "A site that is needed cannot be reached (37100043)."},
}
ERRORS_OF_ADMIN: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    403: {"model": FaultAnswer, "description": "Only for administrators."},
}
ERRORS_OF_ADMIN_ONE: dict[int | str, dict[str, Any]] = {
    **ERRORS_OF_ADMIN,
    404: {"model": FaultAnswer, "description": "No such object, or none that you may know of."},
}
