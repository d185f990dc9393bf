"""What a node's report on a worker says: is it alive, and can it go on without a person? Pure."""

from __future__ import annotations

from twinsite.control.refusals import BUSY, INTERNAL_FAULT, PEER_UNREACHABLE
from twinsite.messages import Failure, Mode, ObservedWorker, Role, WorkerStatus

_PASSING_CODES = frozenset({PEER_UNREACHABLE, BUSY})
"""What a primary that tries again by itself may complain of without needing a person."""


def living_status(worker: ObservedWorker | None, role: Role) -> WorkerStatus | None:
    """Return the status of a worker that lives and has taken this role, or None."""
    if worker is None or not worker.alive or worker.status is None or worker.status.role is not role:
        return None
    return worker.status


def fatal_failure(worker: ObservedWorker | None) -> Failure | None:
    """Return why a worker cannot go on: its process cannot be started, or it stopped by an error. None otherwise.

    A failure that a worker names while it goes on, such as a peer that cannot be reached, is not fatal.
    """
    if worker is None:
        return None
    if worker.failure is not None or worker.status is None or worker.status.mode is not Mode.ERROR:
        return worker.failure
    unnamed = Failure(INTERNAL_FAULT, f"worker {worker.id} stopped without saying why; see its log")
    return worker.status.failure or member_failure(worker) or unnamed


def needs_person(worker: ObservedWorker | None) -> Failure | None:
    """Return the failure in a report that does not pass by itself: a fatal one, or one of a code that needs a hand.

    What one disk refuses its hosts, such as a write to a full one, is told but is none of these.
    """
    failure = fatal_failure(worker)
    if failure is None and worker is not None and worker.status is not None:
        told = worker.status.failure
        if told is not None and told.code not in _PASSING_CODES:
            failure = told
    return failure


def member_failure(worker: ObservedWorker | None) -> Failure | None:
    """Return the first failure of a volume that a worker holds."""
    members = worker.status.members if worker is not None and worker.status is not None else []
    return next((member.failure for member in members if member.failure is not None), None)
