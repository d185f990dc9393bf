"""The control plane of a world: the group's record, the arbiter's row, the calls of operators.

The database is a few fields here and a step is atomic, as a transaction is; what decides (the arbiter's rules, the
table of moves, health and outlook) is the product's own code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twinsite.control.lifecycle.health import GroupFacts, GroupHealth, derive_health
from twinsite.control.lifecycle.outlook import (
    FailoverFacts,
    Loss,
    goes_back,
    is_known_doubtful,
    is_known_inconsistent,
    is_silent,
    loss_of,
)
from twinsite.control.lifecycle.reports import living_status
from twinsite.control.lifecycle.restored import catch_up, known_of
from twinsite.control.lifecycle.settling import MoveFacts, Step, next_step
from twinsite.control.lifecycle.states import GROUP_ADMITS, GroupCall, GroupStatus, ReplicationStatus
from twinsite.core.arbiter import (
    Reached,
    Reason,
    Refusal,
    Row,
    Secondary,
    first_row,
    forget,
    give_up,
    hear,
    learn,
    promote,
    restoration_of,
    secondary_in_sync,
    suspend_secondary,
    switch,
)
from twinsite.messages import (
    DesiredVolume,
    MemberSpec,
    Mode,
    ObservedVolume,
    ObservedWorker,
    Replication,
    Role,
    WorkerSpec,
    to_wire,
)
from twinsite_sim import extending, members
from twinsite_sim.extending import Refused
from twinsite_sim.machine import Machine
from twinsite_sim.volumes import UNIT_BYTES, Extension, SimPair, new_pair, number_of, place_of

GROUP_ID = "11111111-2222-4333-8444-555555555555"
STREAM_KEY = "ab" * 32

SILENCE_SECONDS = 12.0
REVERSE_WAIT_SECONDS = 15.0
FAILOVER_WAIT_SECONDS = 60.0
SYNC_GRACE_SECONDS = 8.0
"""The defaults of the controller's settings."""

_BEGUN = frozenset({Mode.COPYING, Mode.IN_SYNC})
_FAILED_OVER = frozenset({GroupStatus.AVAILABLE, GroupStatus.FAILING_OVER, GroupStatus.FAILED_OVER})
_SWITCHED = frozenset({GroupStatus.AVAILABLE, GroupStatus.REVERSING, GroupStatus.ERROR_REVERSING})
_LEFT_BY_SYNC = frozenset({GroupStatus.FAILED_OVER, GroupStatus.ERROR_REVERSING})


@dataclass
class Group:
    """What the database keeps of the group."""

    priority_station: str
    secondary_station: str
    status: GroupStatus = GroupStatus.AVAILABLE
    replication: Replication = Replication.PAUSED
    replication_status: ReplicationStatus = ReplicationStatus.INACTIVE
    spec_version: int = 1
    wish_version: int = 1
    peer_endpoint: str | None = None
    move_ends_at: float | None = None
    synced_at: float | None = None
    loss_acceptances: int = 0
    pairs: list[SimPair] = field(default_factory=list)
    journal: Extension | None = None
    next_member_index: int = 0
    id: str = GROUP_ID


Backup = tuple[Group, Row]
"""What the database keeps."""


@dataclass(frozen=True)
class Promotion:
    """A failover that was granted: what the operator was told that it loses, and what had been reported by then."""

    site: str
    is_forced: bool
    loss: Loss | None
    stater: str
    """The machine by whose clock the loss was stated."""
    said_at: float
    """When the primary looked at what it reported last."""
    accepts_loss: bool
    """The promoted side goes on although it may lack writes that nobody has flushed, as was stated."""


class Controller:
    """One controller. `on_promoted` hears of failovers before anybody acts on them, `on_row` of each new row.

    `on_row` also hears whether it is no news of the group: a call made it that nobody waits for any more, or it was
    restored and heard of again.
    """

    def __init__(self, machine: Machine, sizes_bytes: list[int]) -> None:
        self.machine = machine
        pairs = [new_pair(n, n, size_bytes, ("az1", "az2")) for n, size_bytes in enumerate(sizes_bytes)]
        self.group = Group("az1", "az2", pairs=pairs, next_member_index=len(pairs))
        self.row = first_row("az1", machine.wall_clock())
        self.reports: dict[str, ObservedWorker] = {}
        self.reported_at: dict[str, float] = {}
        self.said_at: dict[str, float] = {}
        """When the worker of a site last looked at what it reports, as nobody in the world can know."""
        self.heard: dict[str, float] = {}
        self.on_promoted: Callable[[Promotion], None] = lambda promotion: None
        self.on_row: Callable[[Row, bool], None] = lambda row, is_old: None
        self.on_loss_accepted: Callable[[], None] = lambda: None
        """Called when an operator lets a promoted primary go on although it may lack writes that nobody has flushed."""
        self._reached = Reached()  # In a file that is not restored.
        self.restores = 0
        """How often the database went back to a backup. What was asked before that is asked of nobody any more."""

    @property
    def size_bytes(self) -> int:
        """Return how large the production disks are in all."""
        return sum(pair.production_volume.size_gib for pair in self.group.pairs) * UNIT_BYTES

    def is_down(self) -> bool:
        """Say whether nobody answers."""
        return not self.machine.is_up

    def shown_bytes(self, number: int) -> int:
        """Return how large the API shows the disks of the pair of this number."""
        for pair in self.group.pairs:
            if number_of(pair.production_volume.id) == number:
                return pair.production_volume.size_gib * UNIT_BYTES
        return 0

    def note(self, event: str) -> None:
        self.machine.trace.add("controller", event)

    def set_row(self, row: Row, why: str, *, is_old: bool = False) -> None:
        self.row = row
        self._reached = self._reached.joined(row.term, row.version)
        self.note(f"{why}: term {row.term}, primary {row.primary_site}, {row.secondary}, version {row.version}")
        self.on_row(row, is_old)

    # The arbiter

    def answer(self, question: dict[str, Any], *, is_late: bool = False) -> dict[str, Any]:
        """Answer a worker as the HTTP API does; `is_late`: nobody waits for the answer any more."""
        call, site, term, version = (question[name] for name in ("call", "site", "term", "version"))
        result: Row | Refusal
        if call == "read":
            result = self.row
        elif call == "suspend_secondary":
            now = self.machine.wall_clock()
            result = suspend_secondary(self.row, site=site, term=term, version=version, now=now)
        else:
            result = secondary_in_sync(self.row, site=site, term=term, version=version)
        if isinstance(result, Refusal):
            self.note(f"refuses {call} of {site} at term {term}, version {version}: {result.reason}")
            return {"granted": False, "reason": result.reason.value, "row": to_wire(result.row)}
        if call != "read":
            self.set_row(result, f"grants {call} to {site}", is_old=is_late)
            self._settle_status()
        return {"granted": True, "reason": None, "row": to_wire(result)}

    # Nodes

    def sync(
        self, site: str, observed: ObservedWorker | None, said_at: float, volumes: Sequence[ObservedVolume] = ()
    ) -> tuple[WorkerSpec, list[DesiredVolume]]:
        """Take a node's report, which its worker made at `said_at`; return what its worker and volumes should be."""
        self.heard[site] = self.machine.loop.time()
        if observed is not None:
            self.reports[site] = observed
            self.reported_at[site] = self.machine.loop.time()
            self.said_at[site] = said_at
        else:
            self.reports.pop(site, None)
        self._take_knowledge(site)
        group = self.group
        extending.take_volumes(group.pairs, volumes)
        secondary = living_status(self.reports.get(group.secondary_station), Role.SECONDARY)
        endpoint = secondary.stream_endpoint if secondary is not None else None
        if secondary is not None and secondary.term != self.row.term:
            endpoint = None
        if endpoint is not None and endpoint != group.peer_endpoint:
            group.peer_endpoint = endpoint
            group.spec_version += 1
        primary = living_status(self.reports.get(group.priority_station), Role.PRIMARY)
        if primary is not None and primary.spec_version >= group.wish_version and primary.mode in _BEGUN:
            group.synced_at = None
        self._settle_status()
        members.settle_change(self)
        self.settle_moves()
        extending.settle_extend(self, volumes)
        return self.spec_for(site), extending.desired_volumes(group.pairs, site)

    def spec_for(self, site: str) -> WorkerSpec:
        """Return what a site's worker should be."""
        group = self.group
        is_primary = site == group.priority_station
        return WorkerSpec(
            id=GROUP_ID,
            version=group.spec_version,
            role=Role.PRIMARY if is_primary else Role.SECONDARY,
            term=self.row.term,
            replication=group.replication,
            members=[
                MemberSpec(pair.member_index, volume.id, volume.worker_gib * UNIT_BYTES)
                for pair in group.pairs
                for volume in pair.volumes
                if volume.site == site
            ],
            site=site,
            arbiter_token="token",
            stream_key=STREAM_KEY,
            peer_endpoint=group.peer_endpoint if is_primary else None,
            loss_acceptances=group.loss_acceptances,
            question=self.row.question,
            row_version=restoration_of(self.row.version),
        )

    def _take_knowledge(self, site: str) -> None:
        """Take in what a worker knows and a backup has forgotten."""
        group, worker = self.group, self.reports.get(site)
        status = worker.status if worker is not None and worker.alive else None
        if status is None:
            return
        catch_up(group, status)
        if status.knowledge is None:
            return
        known = known_of(status.knowledge, site, "az2" if site == "az1" else "az1")
        before = self.row
        after = hear(before, known)
        if after == before:
            return
        if learn(before, known) != before:
            if after.primary_site != group.priority_station:
                self._other_way_round()
                group.status, group.replication, group.move_ends_at = GroupStatus.FAILED_OVER, Replication.PAUSED, None
            if after.secondary is Secondary.IN_SYNC and group.status is GroupStatus.FAILED_OVER:
                group.status, group.replication = GroupStatus.AVAILABLE, Replication.RUNNING
            self._wish()
        else:
            group.spec_version += 1
        self.set_row(after, f"hears what {site} knows", is_old=True)

    def back_up(self) -> Backup:
        """Return what the database keeps."""
        return copy.deepcopy(self.group), self.row

    def restore(self, backup: Backup) -> None:
        """The database goes back to a backup, and the controller notices that."""
        group, row = backup
        if self.group.next_member_index != group.next_member_index or len(self.group.pairs) != len(group.pairs):
            return  # The product gives no index out twice; a database that has forgotten one would.
        self.restores += 1
        kept, self.group = self.group, copy.deepcopy(group)
        if extending.keep_sizes(kept.pairs, group.pairs):
            # The product has no way out yet where a backup knows smaller disks than hosts have.
            self.group.pairs, self.group.journal = kept.pairs, kept.journal
            self.group.spec_version = max(self.group.spec_version, kept.spec_version)
            self._turn_pairs()
        self.reports.clear()
        self.reported_at.clear()
        restored = forget(row, ["az1", "az2"], f"restoration {self.restores}", self._reached)
        self.set_row(restored, "is restored from a backup")

    # What is shown

    def connected(self) -> frozenset[str]:
        """Return the sites whose nodes were heard of lately."""
        now = self.machine.loop.time()
        return frozenset(site for site, at in self.heard.items() if now - at < SILENCE_SECONDS)

    def health(self) -> GroupHealth:
        """Return what the API shows of the group."""
        group = self.group
        now = self.machine.loop.time()
        return derive_health(
            GroupFacts(
                status=group.status,
                recorded_in_sync=self.row.secondary is Secondary.IN_SYNC,
                replication=group.replication,
                replication_status=group.replication_status,
                wish_version=group.wish_version,
                has_members=True,
                primary=self.reports.get(group.priority_station),
                secondary=self.reports.get(group.secondary_station),
                primary_connected=group.priority_station in self.connected(),
                in_sync_grace=group.synced_at is not None and now - group.synced_at < SYNC_GRACE_SECONDS,
            )
        )

    def _settle_status(self) -> None:
        self.group.replication_status = self.health().replication_status

    # Moves

    def settle_moves(self) -> None:
        """Take the next step of a move, if there is one."""
        group = self.group
        now = self.machine.loop.time()
        facts = MoveFacts(
            status=group.status,
            replication=group.replication,
            wish_version=group.wish_version,
            row=self.row,
            is_moving=group.move_ends_at is not None,
            is_late=group.move_ends_at is not None and now >= group.move_ends_at,
            primary=self.reports.get(group.priority_station),
            primary_connected=group.priority_station in self.connected(),
        )
        step = next_step(facts)
        if step is Step.WAIT:
            return
        if step is Step.SWITCH and not self._switch():
            step = Step.ROLL_BACK
        self.note(f"move: {step.value}")
        if step is Step.SWITCH:
            return
        group.status = {
            Step.FAILED_OVER: GroupStatus.FAILED_OVER,
            Step.REVERSED: GroupStatus.AVAILABLE,
            Step.FAILOVER_FAILED: GroupStatus.ERROR_FAILING_OVER,
            Step.REVERSE_LATE: GroupStatus.ERROR_REVERSING,
            Step.ROLL_BACK: GroupStatus.ERROR_REVERSING,
        }[step]
        if step in (Step.FAILED_OVER, Step.REVERSED, Step.ROLL_BACK):
            group.move_ends_at = None
        if step is Step.ROLL_BACK:
            self._wish(replication=Replication.RUNNING)

    def _switch(self) -> bool:
        group, row = self.group, self.row
        answer = switch(row, site=group.secondary_station, term=row.term, version=row.version)
        if isinstance(answer, Refusal):
            return False
        self._other_way_round()
        group.move_ends_at = self.machine.loop.time() + REVERSE_WAIT_SECONDS
        self._wish(replication=Replication.RUNNING)
        self.set_row(answer, "switches")
        return True

    def _other_way_round(self) -> None:
        group = self.group
        group.priority_station, group.secondary_station = group.secondary_station, group.priority_station
        group.peer_endpoint = None
        self._turn_pairs()

    def _turn_pairs(self) -> None:
        for pair in self.group.pairs:
            pair.turn(self.group.priority_station)

    def _wish(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.group, name, value)
        self.group.spec_version += 1
        self.group.wish_version = self.group.spec_version

    # Operators

    def failover(self, *, force: bool = False, to: str | None = None) -> None:
        """Make the DR site primary. Nothing is done if `to` is primary by a failover already. Raises `Refused`."""
        group = self.group
        if self._is_at(to, _FAILED_OVER):
            return
        self.admit(GroupCall.FAIL_OVER)
        now = self.machine.loop.time()
        moving: dict[str, Any] = {
            "status": GroupStatus.FAILING_OVER,
            "replication": Replication.PAUSED,
            "replication_status": ReplicationStatus.ACTIVE_STOPPED,
            "move_ends_at": now + FAILOVER_WAIT_SECONDS,
        }
        target = group.secondary_station
        connected = self.connected()
        facts = FailoverFacts(
            status=group.status,
            has_members=True,
            target=target,
            target_connected=target in connected,
            row=self.row,
            primary=self.reports.get(group.priority_station),
            secondary=self.reports.get(target),
            primary_connected=group.priority_station in connected,
            primary_heard=group.priority_station in self.connected(),
        )
        waits_again = group.status is GroupStatus.ERROR_FAILING_OVER and not (force and goes_back(facts))
        if to is not None and to != (group.priority_station if waits_again else target):
            raise Refused(f"it would not end at {to}")
        # Only what is stated is accepted: a doubt that the new primary finds later needs another word.
        accepts_loss = force and (waits_again or is_known_doubtful(facts.secondary))
        if accepts_loss:
            moving["loss_acceptances"] = group.loss_acceptances + 1
        if waits_again:
            self.require_connected(group.priority_station)
            self._wish(**moving)
            if force:
                self.on_loss_accepted()
            return
        self.require_connected(target)
        is_stale = self.row.secondary is Secondary.STALE or bool(self.row.unheard)
        if force and is_stale and is_known_inconsistent(facts.secondary):
            raise Refused("the DR side is not at one point in time")
        if force and is_stale and is_silent(facts.secondary):
            raise Refused("the DR side does not say whether it is at one point in time")
        if not force and is_known_doubtful(facts.secondary):
            raise Refused("the DR side may have lost writes")
        answer = promote(self.row, site=target, version=self.row.version, force=force, now=self.machine.wall_clock())
        if isinstance(answer, Refusal):
            raise Refused("stale" if answer.reason is Reason.STALE else answer.reason.value)
        loss = loss_of(facts)
        self._other_way_round()
        self._wish(**moving)
        self.on_promoted(
            Promotion(
                site=target,
                is_forced=loss is not None,
                loss=loss,
                stater=self.machine.name,
                said_at=self.said_at.get(group.secondary_station, 0.0),
                accepts_loss=accepts_loss,
            )
        )
        self.set_row(answer, f"promotes, stating the loss of {loss or 'nothing'}")

    def reverse(self, *, to: str | None = None) -> None:
        """Begin a planned switchover. Nothing is done if it has brought the group to `to` already. Raises `Refused`."""
        if self._is_at(to, _SWITCHED):
            return
        self.admit(GroupCall.REVERSE)
        if to is not None and to != self.group.secondary_station:
            raise Refused(f"it would not end at {to}")
        extending.refuse_while_extending(self.group.pairs)
        if self.health().replication_status is not ReplicationStatus.ACTIVE:
            raise Refused("replication is not active")
        self.require_connected("az1", "az2")
        self._wish(
            status=GroupStatus.REVERSING,
            replication=Replication.HANDOVER,
            move_ends_at=self.machine.loop.time() + REVERSE_WAIT_SECONDS,
        )

    def extend(self, sizes_gib: dict[int, int]) -> None:
        """Give pairs, by member index, these sizes, all or none. Raises `Refused`."""
        extending.extend(self, sizes_gib)

    def change_pairs(self, added: Sequence[SimPair], removed: Sequence[int]) -> None:
        """Let pairs in, and out by their member indexes. Raises `Refused`."""
        members.change_pairs(self, added, removed)

    def reprotect(self) -> None:
        """Follow the new primary. Raises `Refused`."""
        self.admit(GroupCall.REPROTECT)
        self.require_connected("az1", "az2")
        self._run_again()

    def synchronize(self) -> None:
        """Let the group be synchronized and kept so. Raises `Refused`."""
        self.admit(GroupCall.SYNC)
        group = self.group
        shown = self.health().replication_status
        runs = group.replication is Replication.RUNNING and shown in (
            ReplicationStatus.ACTIVE,
            ReplicationStatus.COPYING,
        )
        if runs and group.status not in _LEFT_BY_SYNC:
            return
        self.require_connected("az1", "az2")
        self._run_again()

    def stop(self, *, force: bool = False) -> None:
        """Pause replication. Raises `Refused`. With `force` the primary goes on without what only the DR side has."""
        if not (force and self.group.status is GroupStatus.UPDATING):
            self.admit(GroupCall.STOP)
        if force:
            self.require_connected(self.group.priority_station)
            self._wish(
                replication=Replication.PAUSED, move_ends_at=None, loss_acceptances=self.group.loss_acceptances + 1
            )
            given_up = give_up(self.row, self.row.unheard)
            self.set_row(given_up, "waits for nobody's knowledge")
            self.on_loss_accepted()
        elif self.group.replication is not Replication.PAUSED:
            self.require_connected(self.group.priority_station)
            self._wish(replication=Replication.PAUSED, move_ends_at=None)

    def _run_again(self) -> None:
        status = self.group.status
        self._wish(
            status=GroupStatus.AVAILABLE if status in _LEFT_BY_SYNC else status,
            replication=Replication.RUNNING,
            replication_status=ReplicationStatus.COPYING,
            synced_at=self.machine.loop.time(),
            move_ends_at=None,
        )

    def admit(self, call: GroupCall) -> None:
        if not self.machine.is_up:
            raise Refused("the controller is down")
        if self.group.status not in GROUP_ADMITS[call]:
            raise Refused(f"the group is {self.group.status}")

    def _is_at(self, to: str | None, statuses: frozenset[GroupStatus]) -> bool:
        """Say whether the group is where it is to be moved, by a move that these statuses tell of."""
        return to == self.group.priority_station and self.group.status in statuses

    def require_connected(self, *sites: str) -> None:
        for site in sites:
            if site not in self.connected():
                raise Refused(f"the node of {site} is silent")


def seen_by_node(spec: WorkerSpec, machine: Machine) -> WorkerSpec:
    """Fill in what the node knows: where the disks lie, and where to listen."""
    members = [
        replace(
            member,
            store=place_of(member.volume_id),
            nbd_tcp=f"{machine.address}:{nbd_port(number_of(member.volume_id))}",
        )
        for member in spec.members
    ]
    return replace(spec, members=members, arbiter_url="http://controller/arbiter", stream_listen=f"{machine.address}:0")


def nbd_port(number: int) -> int:
    """Return where the disks of the pair of this number are served, at whatever site."""
    return 20_000 + number
