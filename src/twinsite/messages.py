"""What controller, node and worker say to each other: plain dataclasses, JSON on the wire.

Controller ⇄ node: `POST /internal/v1/nodes/{site}/sync` carries a `NodeReport` and answers a `NodeDesired`.
Node ⇄ worker: the control socket carries one JSON object a line; the node sends a `WorkerSpec`, the worker answers
with a `WorkerStatus` at once and again whenever it changes. Both directions are level-triggered: each message is the
whole truth of its sender, so a lost or repeated one costs nothing.

No pydantic here: a worker loads this module, and there may be hundreds of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from twinsite.wire import from_wire as from_wire  # noqa: PLC0414 - who speaks messages finds the codec here.
from twinsite.wire import to_wire as to_wire  # noqa: PLC0414


class Role(StrEnum):
    """What a worker is to its volumes."""

    SOLO = "solo"  # One volume outside any group, a host attached.
    PRIMARY = "primary"  # Serves the group's hosts and feeds the stream.
    SECONDARY = "secondary"  # Follows the stream and serves no host.


class Replication(StrEnum):
    """What the controller wants of a group's stream."""

    PAUSED = "paused"  # No stream; the primary tracks what the secondary lacks.
    RUNNING = "running"  # Connect, resync what differs, then mirror; after an interruption do it again.
    HANDOVER = "handover"  # Take no new write, end what is in flight, flush both sides, and say so: a switchover.


class Mode(StrEnum):
    """What a worker is doing, as it observes itself."""

    STARTING = "starting"  # Volumes not yet open.
    SOLO = "solo"
    PAUSED = "paused"  # Primary: no stream by the user's wish.
    CONNECTING = "connecting"  # Primary: stream wanted, the peer is not there; writes are tracked.
    COPYING = "copying"  # Primary: resync running.
    IN_SYNC = "in_sync"  # Primary: every acknowledgement waits for the secondary.
    HOLDING = "holding"  # Primary: writes wait for the stream to come back or for the arbiter's grant.
    HANDED_OVER = "handed_over"  # Primary: both sides are equal and flushed, and nothing changes any more.
    REPLACED = "replaced"  # Primary: another site is primary; nobody is served.
    FOLLOWING = "following"  # Secondary: whatever the stream does.
    ERROR = "error"  # `failure` says why; a person is needed.


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something cannot go on: a documented EVS code and a sentence that names the object and the way out."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a volume's bytes lie at one site."""

    kind: str  # "file" or "block"
    path: str


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """One volume of a worker. `index` is its number in the stream and the same at both sites."""

    index: int
    volume_id: str
    size_bytes: int
    store: StorePlace | None = None  # The node fills these three in; the controller leaves them out.
    nbd_socket: str | None = None
    nbd_tcp: str | None = None  # "host:port"


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker needs to know. `version` grows whenever anything else in it changes."""

    id: str  # The group's id, or the volume's for a solo worker.
    version: int
    role: Role
    term: int
    replication: Replication
    members: list[MemberSpec]
    site: str = ""
    stream_key: str = ""  # Hexadecimal shared secret of the group's two workers.
    arbiter_url: str | None = None  # Where the arbiter answers for this group; the node fills it in.
    arbiter_token: str = ""  # What the worker shows the arbiter.
    arbiter_ca_file: str | None = None  # Whom to trust at an https address; the system's authorities when left out.
    stream_listen: str | None = None  # Secondary: "host:port", port 0 for one of the kernel's choice.
    peer_endpoint: str | None = None  # Primary: "host:port" of the secondary's stream listener, once known.
    loss_acceptances: int = 0  # How often an operator has accepted that acknowledged writes are lost; only grows.
    question: str = ""  # Set while the arbiter's row is that of a backup: the name of what the workers are asked.
    row_version: int = 0  # That the arbiter's row has had since it was restored last.
    request_id: str = ""  # The request of the API that changed it last, for logs; empty when nobody asked.

    @property
    def is_row_trusted(self) -> bool:
        """Say whether the row, and so the term, are not those of a backup that may have forgotten."""
        return not self.question


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One volume as its worker sees it. Bytes count what a resync has to cover, at the primary."""

    volume_id: str
    serving: bool
    resync_bytes_total: int = 0
    resync_bytes_done: int = 0
    dirty_bytes: int = 0
    failure: Failure | None = None
    size_bytes: int = 0  # What it has of its store open; 0 when nobody knows.


@dataclass(frozen=True, slots=True)
class ResyncReport:
    """The running resync, or the last one. Times are seconds since the epoch; bytes are of volume content."""

    kind: str  # "full" or "delta"
    started_at: float
    finished_at: float | None
    bytes_total: int
    bytes_done: int
    bytes_shipped: int  # Data that crossed the link.
    bytes_zero: int  # Covered by zero frames.
    bytes_per_second: float
    seconds_left: float | None
    bytes_compared: int = 0  # Suspected, and compared by digest first.


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the worker started."""

    writes: int = 0
    write_bytes: int = 0
    reads: int = 0
    read_bytes: int = 0
    flushes: int = 0
    stream_bytes_sent: int = 0
    stream_bytes_received: int = 0
    stream_connects: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took, since the worker started: how often in each bucket of `latency.BUCKETS_SECONDS`, the
    last count being of what took longer than all of them, and the seconds of all together."""

    counts: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Activity:
    """How hosts are served, since the worker started, and what waits now."""

    write_latency: Latency = field(default_factory=Latency)  # From the write's arrival to its acknowledgement.
    flush_latency: Latency = field(default_factory=Latency)  # Of flushes and of writes with FUA.
    arbiter_latency: Latency = field(default_factory=Latency)  # Of the calls, answered or not.
    arbiter_failures: int = 0  # Calls without an answer.
    holds: int = 0
    hold_seconds: float = 0.0  # The running hold included.
    frames_in_flight: int = 0  # Sent, or held, and not acknowledged by the secondary.
    bytes_in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a worker knows of what a controller may have forgotten: the term that it has made durable or, replaced, has
    heard of, what it is in that term, and the newest version of the arbiter's row that it was told of. What that row
    says of the secondary only a primary knows, who was answered with it."""

    term: int
    is_primary: bool
    row_version: int = 0
    row_in_sync: bool = False
    row_stale_since: float | None = None
    spec_version: int = 0  # Of the newest spec that it was given; older ones are not taken.
    loss_acceptances: int = 0  # That it has heard of.
    answers: str | None = None  # The question that it was told; empty while something from before that is under way.


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker observes of itself; `spec_version` is the newest spec that is in force."""

    id: str
    spec_version: int
    role: Role
    mode: Mode
    term: int
    members: list[MemberStatus]
    stream_endpoint: str | None = None  # Secondary: where it listens.
    consistent: bool = False  # Primary: the secondary's image is at a common point. Secondary: its own belief.
    doubtful: bool = False  # Acknowledged writes may be missing at this side, and nobody has accepted that.
    rollback_point: float | None = None  # Secondary, not consistent: the time of the point that it can return to.
    in_sync_since: float | None = None
    holding_since: float | None = None
    dirty_bytes: int = 0
    acknowledged_sequence: int = 0
    sent_sequence: int = 0
    resync: ResyncReport | None = None
    counters: Counters = field(default_factory=Counters)
    failure: Failure | None = None
    knowledge: Knowledge | None = None
    activity: Activity | None = None  # Of a primary; of a volume outside any group its two latencies.
    request_id: str = ""  # Primary: the request of the API that its present doing follows from; empty for nobody's.


@dataclass(frozen=True, slots=True)
class DesiredVolume:
    """A volume that must exist at the node's site, or must be gone (`deleted`).

    `room_bytes` is more than `size_bytes` while the volume is being extended: its store must have that size already,
    and read as zeros there, while its worker is told nothing of it. An extension that is undone leaves the room.
    """

    id: str
    size_bytes: int
    volume_type: str
    deleted: bool = False
    room_bytes: int = 0
    request_id: str = ""  # The request of the API that changed it last, for logs.


@dataclass(frozen=True, slots=True)
class NodeDesired:
    """The controller's answer: everything this site should be. Volumes not listed are left alone.

    A node that has seen a generation is told what changed since (`basis`): the whole state of each object that changed.
    """

    installation_id: str  # A node that has seen another installation's id refuses the message.
    generation: int
    volumes: list[DesiredVolume]
    workers: list[WorkerSpec]
    deleted_workers: list[str] = field(default_factory=list)  # Of deleted groups: what they left behind goes.
    journal: str = ""  # Who counts the changes; a node echoes it with the generation that it has seen.
    basis: int | None = None  # Lists only what changed after this generation of the same journal; None for everything.
    gone_volumes: list[str] = field(default_factory=list)  # No longer listed, with a `basis`; so are
    gone_workers: list[str] = field(default_factory=list)  # these. Either may name what never was.
    report_id: str = ""  # The last report of the site that the controller has taken in, as far as it knows.


@dataclass(frozen=True, slots=True)
class ObservedVolume:
    """A volume as the node sees it."""

    id: str
    state: str  # "ready", "deleted" or "error"
    nbd_uris: list[str] = field(default_factory=list)  # The same for the volume's whole life.
    failure: Failure | None = None
    store_bytes: int = 0  # The size of its store; 0 when nobody knows.
    refused_bytes: int = 0  # The room that it could not be given, for the reason in `failure`.


@dataclass(frozen=True, slots=True)
class KeptLog:
    """What a former primary alone had at the node's site: the log that it is kept in, on the node's machine."""

    path: str
    point_at: float  # When it began to be overwritten, in seconds since the epoch.
    size_bytes: int  # Of the log.


@dataclass(frozen=True, slots=True)
class ObservedWorker:
    """A worker process as the node sees it; `status` is its own last word."""

    id: str
    alive: bool
    pid: int | None = None
    status: WorkerStatus | None = None
    failure: Failure | None = None  # It cannot be started, or keeps dying.
    kept: list[KeptLog] = field(default_factory=list)  # The oldest first.


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The site's storage."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node observes, and the last generation that it has seen.

    A report that builds on another one (`basis`) counts only for a controller that has taken in that one last; the
    answer says which one it was.
    """

    site: str
    node_name: str
    seen_generation: int
    wait_seconds: float  # How long the controller may hold the answer while nothing changed; 0 for at once.
    pool: PoolReport
    volumes: list[ObservedVolume]
    workers: list[ObservedWorker]
    deleted_workers: list[str] = field(default_factory=list)  # Of which nothing is left; until nobody asks any more.
    journal: str = ""  # Of the last answer: by whose count `seen_generation` is.
    report_id: str = ""  # Names this report, so that the next can build on it.
    basis: str | None = None  # Lists only what is new since this report, in full; None for everything.
    gone_workers: list[str] = field(default_factory=list)  # No longer observed, with a `basis`.


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return the host, without the brackets of an IPv6 address, and the port of "host:port". Raises `ValueError`."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)
