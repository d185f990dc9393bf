"""The table of moves, walked over everything it looks at."""

from __future__ import annotations

import itertools

import pytest

from twinsite.control.lifecycle.settling import MoveFacts, Step, next_step
from twinsite.control.lifecycle.states import GroupStatus
from twinsite.core.arbiter import Row, Secondary
from twinsite.messages import Failure, MemberStatus, Mode, ObservedWorker, Replication, Role, WorkerStatus

IN_SYNC = Row(term=3, primary_site="az1", secondary=Secondary.IN_SYNC, stale_since=None, version=7)
STALE = Row(term=3, primary_site="az1", secondary=Secondary.STALE, stale_since=1.0, version=7)
BROKEN = Failure("37100177", "production storage is abnormal")
PASSING = Failure("37100043", "the other site cannot be reached")
MOVE_STATUSES = {
    GroupStatus.FAILING_OVER,
    GroupStatus.ERROR_FAILING_OVER,
    GroupStatus.REVERSING,
    GroupStatus.ERROR_REVERSING,
}


def worker(
    mode: Mode,
    *,
    version: int = 5,
    term: int = 3,
    role: Role = Role.PRIMARY,
    alive: bool = True,
    failure: Failure | None = None,
) -> ObservedWorker:
    """Return a report on a group's worker."""
    status = WorkerStatus("g", version, role, mode, term, [MemberStatus("p", True)], failure=failure)
    return ObservedWorker("g", alive=alive, pid=1, status=status)


def facts(
    status: GroupStatus,
    primary: ObservedWorker | None,
    *,
    replication: Replication = Replication.RUNNING,
    row: Row = IN_SYNC,
    is_moving: bool = True,
    is_late: bool = False,
    connected: bool = True,
) -> MoveFacts:
    """Return the facts of a group whose newest wish has version 5."""
    return MoveFacts(status, replication, 5, row, is_moving, is_late, primary, connected)


REPORTS: dict[str, ObservedWorker | None] = {
    "none": None,
    "dead": worker(Mode.HANDED_OVER, alive=False),
    "cannot start": ObservedWorker("g", alive=False, failure=BROKEN),
    "broken": worker(Mode.HOLDING, failure=BROKEN),
    "complains": worker(Mode.HOLDING, failure=PASSING),
    "old spec": worker(Mode.HANDED_OVER, version=4),
    "old term": worker(Mode.HANDED_OVER, term=2),
    "newer term": worker(Mode.IN_SYNC, term=4),
    "secondary": worker(Mode.FOLLOWING, role=Role.SECONDARY),
    **{mode.value: worker(mode) for mode in Mode},
}
SERVING = {"paused", "connecting", "copying", "in_sync"}
BROKEN_REPORTS = {"cannot start", "broken", "error"}


def expected(status: GroupStatus, report: str, handover: bool, stale: bool, late: bool, connected: bool) -> Step:
    """Return what the table should say, written down a second time in other words."""
    if status in (GroupStatus.FAILING_OVER, GroupStatus.ERROR_FAILING_OVER):
        if report in SERVING:
            return Step.FAILED_OVER
        gives_up = status is GroupStatus.FAILING_OVER and (late or report in BROKEN_REPORTS)
        return Step.FAILOVER_FAILED if gives_up else Step.WAIT
    if status is GroupStatus.REVERSING and handover:
        if report == "handed_over" and not stale:
            return Step.SWITCH
        gone = not connected or report in {"none", "dead"} | BROKEN_REPORTS
        return Step.ROLL_BACK if stale or late or gone else Step.WAIT
    if status in (GroupStatus.REVERSING, GroupStatus.ERROR_REVERSING):
        if report == "in_sync" and not stale:
            return Step.REVERSED
        return Step.REVERSE_LATE if late and status is GroupStatus.REVERSING else Step.WAIT
    return Step.WAIT


@pytest.mark.parametrize(("status", "report"), list(itertools.product(GroupStatus, REPORTS)))
def test_every_step(status: GroupStatus, report: str) -> None:
    for handover, stale, late, connected in itertools.product([False, True], repeat=4):
        case = facts(
            status,
            REPORTS[report],
            replication=Replication.HANDOVER if handover else Replication.RUNNING,
            row=STALE if stale else IN_SYNC,
            is_late=late,
            connected=connected,
        )
        assert next_step(case) is expected(status, report, handover, stale, late, connected), case


@pytest.mark.parametrize(("status", "report"), list(itertools.product(GroupStatus, REPORTS)))
def test_what_does_not_move_waits(status: GroupStatus, report: str) -> None:
    for replication in Replication:
        case = facts(status, REPORTS[report], replication=replication, is_moving=False, is_late=True)
        assert next_step(case) is Step.WAIT


@pytest.mark.parametrize(("status", "report"), list(itertools.product(GroupStatus, REPORTS)))
def test_only_a_handover_in_force_lets_the_sites_switch(status: GroupStatus, report: str) -> None:
    for handover, late, connected in itertools.product([False, True], repeat=3):
        replication = Replication.HANDOVER if handover else Replication.RUNNING
        case = facts(status, REPORTS[report], replication=replication, is_late=late, connected=connected)
        if next_step(case) is Step.SWITCH:
            assert (status, report, handover) == (GroupStatus.REVERSING, "handed_over", True)
