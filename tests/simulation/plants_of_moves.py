"""Bugs to plant in what moves a group, and in what its sides must have made durable for that. As in `plants`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.plants import Plant
from twinsite.control.lifecycle import outlook
from twinsite.core import arbiter
from twinsite.core.group.convergence import Convergence
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import Action
from twinsite.errors import StorageFault
from twinsite.messages import Role, WorkerSpec
from twinsite.worker import secondary_group
from twinsite.worker.mirrored_device import MirroredDevice
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.secondary_session import _owned
from twinsite.worker.standing import Standing
from twinsite.worker.state import ReplicaState, StateDirectory
from twinsite.worker.undo_log import UndoLog
from twinsite.worker.worker import Worker
from twinsite_sim import controller


def apply_after_promotion(patch: pytest.MonkeyPatch) -> None:
    """Apply the last frames of a stream a second after this side has become primary."""
    honest_apply, honest_start = SecondaryGroup.apply_frames, Worker._start_role

    def apply_frames(self: SecondaryGroup, session: Any, operations: Any) -> None:
        honest_apply(self, session, operations)
        last = self._directory.__dict__.setdefault("last_frames", deque(maxlen=32))
        last.extend(_owned(frame) for frame in operations if frame.kind in secondary_group._CHANGING)

    async def start_role(self: Worker, spec: WorkerSpec, stores: Any) -> None:
        await honest_start(self, spec, stores)
        last = self._directory.__dict__.pop("last_frames", ())

        def late() -> None:
            with contextlib.suppress(StorageFault):
                for frame in last:
                    if frame.payload is not None:
                        stores[frame.volume].write(frame.payload, frame.offset)
                    else:
                        stores[frame.volume].zero(frame.offset, frame.length, punch=False)

        if spec.role is Role.PRIMARY:
            asyncio.get_running_loop().call_later(1.0, late)

    patch.setattr(SecondaryGroup, "apply_frames", apply_frames)
    patch.setattr(Worker, "_start_role", start_role)


def obey_past_terms(patch: pytest.MonkeyPatch) -> None:
    """Do what a spec of a term says that is over."""
    patch.setattr(Worker, "_refuse_past_term", lambda self, spec: None)


def keep_terms_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Let a restart forget every term but the first."""
    honest = StateDirectory.save

    def save(self: StateDirectory, state: ReplicaState) -> None:
        first: int = self.__dict__.setdefault("first_term", self.load().term or state.term)
        honest(self, replace(state, term=first))

    patch.setattr(StateDirectory, "save", save)


def serve_although_replaced(patch: pytest.MonkeyPatch) -> None:
    """Take no notice of the arbiter's word that another site is primary."""
    patch.setattr(Primary, "replaced", lambda self: None)


def read_what_nobody_has_answered_for(patch: pytest.MonkeyPatch) -> None:
    """Show hosts what a connection that is gone has left in flight."""
    patch.setattr(MirroredDevice, "_note_orphans", lambda self: None)


def take_late_reports(patch: pytest.MonkeyPatch) -> None:
    """Let the arbiter take a report of a version of its row that is past."""

    def secondary_in_sync(row: Any, *, site: str, term: int, version: int) -> Any:
        del version
        return arbiter.secondary_in_sync(row, site=site, term=term, version=row.version)

    patch.setattr(controller, "secondary_in_sync", secondary_in_sync)


def promote_a_stale_side(patch: pytest.MonkeyPatch) -> None:
    """Fail over to a secondary that is stale, without force and without a word."""

    def promote(row: Any, *, site: str, version: int, force: bool, now: float) -> Any:
        del force
        return arbiter.promote(row, site=site, version=version, force=True, now=now)

    patch.setattr(controller, "promote", promote)
    patch.setattr(controller, "loss_of", lambda facts: None)


def understate_since_when(patch: pytest.MonkeyPatch) -> None:
    """Say that a forced failover loses three seconds less than it does."""
    honest = outlook.loss_of

    def loss_of(facts: Any) -> Any:
        loss = honest(facts)
        return replace(loss, since=loss.since + 3.0) if loss is not None and loss.since is not None else loss

    patch.setattr(controller, "loss_of", loss_of)


def understate_how_much(patch: pytest.MonkeyPatch) -> None:
    """Say that a forced failover loses nothing but what a clock says."""
    honest = outlook.loss_of

    def loss_of(facts: Any) -> Any:
        loss = honest(facts)
        return replace(loss, bytes_at_most=0) if loss is not None and not loss.unheard else loss

    patch.setattr(controller, "loss_of", loss_of)


def find_everything_equal(patch: pytest.MonkeyPatch) -> None:
    """Compare blocks and take those that differ for equal."""
    patch.setattr(Convergence, "_differ", lambda self, run: None)


def promise_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Tell the arbiter that the secondary is in sync before it is recorded here that it has everything."""

    async def promise_all(self: Standing) -> None:
        if self._machine.wants_report:
            self._machine.report_sent()
            self._machine.peer_has_all = True

    patch.setattr(Standing, "promise_all", promise_all)


def go_alone_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Go on alone before it is recorded here that the secondary does not have everything any more."""

    async def go_alone(self: Standing, row_version: int, stale_since: float | None = None) -> None:
        del row_version, stale_since
        async with self._lock:
            if not self._machine.is_flushing_healed:
                self._machine.granted()

    patch.setattr(Standing, "go_alone", go_alone)


def record_nothing_unstable(patch: pytest.MonkeyPatch) -> None:
    """Apply frames without a record that a restart of the machine may lose them."""
    patch.setattr(SecondaryGroup, "_record_unstable", lambda self: None)


def keep_old_content_of_one_disk(patch: pytest.MonkeyPatch) -> None:
    """Keep what a resync overwrites of the first disk, and of no other."""
    honest = UndoLog.save

    def save(self: UndoLog, stores: Any, operations: Any) -> None:
        honest(self, stores, [operation for operation in operations if operation.volume == 0])

    patch.setattr(UndoLog, "save", save)


def keep_old_content_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Overwrite disks before their old content is durable in the undo log."""
    patch.setattr(UndoLog, "_sync", lambda self: None)


def wait_for_a_person_instead_of_healing(patch: pytest.MonkeyPatch) -> None:
    """Let a primary that may lack writes wait although its secondary is there and has them."""
    honest = Primary.consider

    def consider(self: Primary, welcome: Any) -> Action:
        action = honest(self, welcome)
        return Action.WAIT if action is Action.HEAL else action

    patch.setattr(Primary, "consider", consider)


_ALL: frozenset[str] = frozenset()
_CRASHES = frozenset({"machine crash", "worker killed", "blip"})
_BROKEN_COPIES = frozenset({"blip", "worker killed inside", "slow threads"})
_BROKEN_BY_CRASHES = frozenset({"machine crash", "machine crash inside", "blip", "slow threads"})
_LONELY = frozenset({"stream blocked", "worker killed", "blip"})
_KILLED_IN_BETWEEN = frozenset({"worker killed", "worker killed inside", "machine crash", "stream blocked"})
_FORGOTTEN = frozenset({"promotion forgotten"})

PLANTS_OF_MOVES: list[tuple[Plant, frozenset[str]]] = [
    (apply_after_promotion, _ALL),
    (obey_past_terms, _FORGOTTEN),
    (keep_terms_in_memory_only, _FORGOTTEN),
    (serve_although_replaced, frozenset({"node frozen"})),
    (read_what_nobody_has_answered_for, frozenset({"stream cut", "site cut off"})),
    (take_late_reports, frozenset({"arbiter faults", "stream cut", "blip"})),
    (promote_a_stale_side, _ALL),
    (understate_since_when, _LONELY),
    (understate_how_much, _LONELY),
    (find_everything_equal, _CRASHES),
    (promise_in_memory_only, _KILLED_IN_BETWEEN),
    (go_alone_in_memory_only, _KILLED_IN_BETWEEN),
    (record_nothing_unstable, _CRASHES),
    (keep_old_content_of_one_disk, _BROKEN_COPIES),
    (keep_old_content_in_memory_only, _BROKEN_BY_CRASHES),
    (wait_for_a_person_instead_of_healing, frozenset({"machine crash"})),
]
"""Each with the faults of the worlds that look for it, as in `PLANTS`."""
