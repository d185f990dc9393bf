"""What a node and the controller know of each other, so that each message holds only what is new. No I/O.

Both directions stay level-triggered: an entry is the whole state of its object, and whoever does not have what a
message builds on is sent everything. The controller says with each answer which report it has taken in last; when that
is not the one that this node built on, the next report is complete. A report is complete now and then in any case, so
that nothing that went wrong unnoticed lasts.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from twinsite.messages import (
    DesiredVolume,
    NodeDesired,
    NodeReport,
    ObservedVolume,
    ObservedWorker,
    PoolReport,
    WorkerSpec,
)

COMPLETE_REPORTS_EVERY = 2000
"""Of so many reports, one is complete."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a node observes."""

    pool: PoolReport
    volumes: Iterable[ObservedVolume]
    workers: Iterable[ObservedWorker]
    deleted_workers: list[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What the controller has taken in, as of the report `id`."""

    id: str
    volumes: dict[str, ObservedVolume]
    workers: dict[str, ObservedWorker]
    rest: tuple[int, list[str]]
    """The seen generation, and what is left of deleted workers."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A report that is on its way: what was told before, and what is told once the controller has taken it in."""

    report: NodeReport
    before: Told | None
    told: Told


class Conversation:
    """A node's end of it. Statements may overlap, as those of a long poll and of a change do."""

    def __init__(self, site: str, node_name: str) -> None:
        """Begin with nothing told and nothing heard."""
        self._site = site
        self._node_name = node_name
        self._told: Told | None = None
        self._sent_id = ""  # A poll may be answered after this report was taken in and before that is known here.
        self._said = 0
        self._wants_everything = False
        self._volumes: dict[str, DesiredVolume] = {}
        self._workers: dict[str, WorkerSpec] = {}
        self.desired: NodeDesired | None = None

    def report(self, observed: Observed) -> Statement | None:
        """Return a report of what is new; None when nothing is."""
        volumes = {volume.id: volume for volume in observed.volumes}
        workers = {worker.id: worker for worker in observed.workers}
        rest = (self.desired.generation if self.desired is not None else 0, observed.deleted_workers)
        told = Told(str(uuid.uuid4()), volumes, workers, rest)
        known = self._told
        before = known if self._said < COMPLETE_REPORTS_EVERY else None
        message = self._message(observed, 0.0, told.id)
        if before is None:
            self._said = 0
            message = replace(message, volumes=list(volumes.values()), workers=list(workers.values()))
        else:
            new_volumes = [volume for volume in volumes.values() if _is_new(volume, before.volumes.get(volume.id))]
            new_workers = [worker for worker in workers.values() if _is_new(worker, before.workers.get(worker.id))]
            gone = [worker_id for worker_id in before.workers if worker_id not in workers]
            if not new_volumes and not new_workers and not gone and rest == before.rest:
                return None
            insistent = [volume for volume in volumes.values() if _insists(volume) and volume not in new_volumes]
            message = replace(
                message, basis=before.id, volumes=new_volumes + insistent, workers=new_workers, gone_workers=gone
            )
        self._sent_id = told.id
        self._said += 1
        return Statement(message, known, told)

    def poll(self, observed: Observed, wait_seconds: float) -> Statement:
        """Return a report that asks, and says only what a controller that has forgotten it must hear again."""
        before = self._told
        if before is None:
            statement = self.report(observed)
            assert statement is not None, "without anything told, everything is new"
            return replace(statement, report=replace(statement.report, wait_seconds=wait_seconds))
        insistent = [volume for volume in before.volumes.values() if _insists(volume)]
        message = replace(self._message(observed, wait_seconds, before.id), basis=before.id, volumes=insistent)
        return Statement(message, before, before)

    def _message(self, observed: Observed, wait_seconds: float, report_id: str) -> NodeReport:
        desired = self.desired
        return NodeReport(
            site=self._site,
            node_name=self._node_name,
            seen_generation=desired.generation if desired is not None else 0,
            wait_seconds=wait_seconds,
            pool=observed.pool,
            volumes=[],
            workers=[],
            deleted_workers=observed.deleted_workers,
            journal=desired.journal if desired is not None and not self._wants_everything else "",
            report_id=report_id,
        )

    def take(self, statement: Statement, answer: NodeDesired) -> bool:
        """Take in the answer to a statement; say whether the desired state, or its generation, is another one now."""
        is_poll = statement.told is statement.before
        if self._told is statement.before and not (is_poll and answer.report_id == self._sent_id):
            self._told = statement.told if answer.report_id == statement.told.id else None
        return self._take_desired(answer)

    @property
    def is_understood(self) -> bool:
        """Say whether the controller has what the next report would build on."""
        return self._told is not None

    def _take_desired(self, answer: NodeDesired) -> bool:
        before = self.desired
        if before is not None and answer.generation < before.generation:
            return False  # Answers to two statements may overtake each other.
        if answer.basis is None:
            self._wants_everything = False
            self._volumes = {volume.id: volume for volume in answer.volumes}
            self._workers = {worker.id: worker for worker in answer.workers}
        elif before is None or before.journal != answer.journal or answer.basis > before.generation:
            self._wants_everything = True
            return False
        else:
            # Built on an older generation than this node's, it lists at least what changed since this node's.
            for volume_id in answer.gone_volumes:
                self._volumes.pop(volume_id, None)
            for worker_id in answer.gone_workers:
                self._workers.pop(worker_id, None)
            self._volumes.update((volume.id, volume) for volume in answer.volumes)
            self._workers.update((worker.id, worker) for worker in answer.workers)
            nothing = not (answer.volumes or answer.workers or answer.gone_volumes or answer.gone_workers)
            if nothing and _frame(answer) == _frame(before):
                return False
        whole = replace(
            answer,
            volumes=list(self._volumes.values()),
            workers=list(self._workers.values()),
            basis=None,
            gone_volumes=[],
            gone_workers=[],
            report_id="",
        )
        if whole == before:
            return False
        self.desired = whole
        return True


def _frame(desired: NodeDesired) -> tuple[int, str, list[str]]:
    return desired.generation, desired.journal, desired.deleted_workers


def _is_new(item: object, before: object) -> bool:
    # Most are the very same objects, which need no comparison of what is in them.
    return item is not before and item != before


def _insists(volume: ObservedVolume) -> bool:
    """Say whether a volume is in a state that an order may meet that was given since it was told."""
    return volume.failure is not None or volume.refused_bytes > 0
