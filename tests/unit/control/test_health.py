"""What the API shows of a group, for every mode of its worker and around it."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import replace

import pytest

from twinsite.control.lifecycle.health import (
    GroupFacts,
    derive_health,
    group_status_after_reports,
    pair_replication_status,
    progress_percent,
    within_grace,
    worst,
)
from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.messages import Failure, MemberStatus, Mode, ObservedWorker, Replication, Role, WorkerStatus

DISK_FULL = Failure("37100178", "no space left under volume d-1")


def worker(mode: Mode, *, role: Role = Role.PRIMARY, version: int = 5, consistent: bool = False) -> ObservedWorker:
    """Return a living worker's report."""
    volume_id = "p-1" if role is Role.PRIMARY else "d-1"
    status = WorkerStatus("g", version, role, mode, 1, [MemberStatus(volume_id, True)], consistent=consistent)
    return ObservedWorker("g", alive=True, pid=1, status=status)


def facts(primary: ObservedWorker | None, **values: object) -> GroupFacts:
    """Return the facts of a group that runs and was in sync last."""
    base = GroupFacts(
        status=GroupStatus.AVAILABLE,
        recorded_in_sync=True,
        replication=Replication.RUNNING,
        replication_status=ReplicationStatus.ACTIVE,
        wish_version=5,
        has_members=True,
        primary=primary,
        secondary=worker(Mode.FOLLOWING, role=Role.SECONDARY),
        primary_connected=True,
        in_sync_grace=False,
    )
    return replace(base, **values)  # type: ignore[arg-type]


# The table of docs/architecture.md, section Status; None means that the last settled status stays.
BY_MODE = {
    (Mode.STARTING, False): None,
    (Mode.STARTING, True): None,
    (Mode.SOLO, False): None,
    (Mode.SOLO, True): None,
    (Mode.FOLLOWING, False): None,
    (Mode.FOLLOWING, True): None,
    (Mode.PAUSED, True): "active-stopped",
    (Mode.PAUSED, False): "inactive",
    (Mode.CONNECTING, False): "inactive",
    (Mode.CONNECTING, True): "inactive",
    (Mode.COPYING, False): "copying",
    (Mode.COPYING, True): "copying",
    (Mode.IN_SYNC, False): "active",
    (Mode.IN_SYNC, True): "active",
    (Mode.HOLDING, False): "inactive",
    (Mode.HOLDING, True): "inactive",
    (Mode.HANDED_OVER, False): None,
    (Mode.HANDED_OVER, True): None,
    (Mode.REPLACED, False): "error",
    (Mode.REPLACED, True): "error",
    (Mode.ERROR, False): "error",
    (Mode.ERROR, True): "error",
}


@pytest.mark.parametrize(
    ("mode", "consistent", "settled"), list(itertools.product(Mode, [False, True], ReplicationStatus))
)
def test_every_mode(mode: Mode, consistent: bool, settled: ReplicationStatus) -> None:
    health = derive_health(facts(worker(mode, consistent=consistent), replication_status=settled))
    assert health.replication_status == (BY_MODE[mode, consistent] or settled)


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.CONNECTING, Mode.COPYING, Mode.IN_SYNC])
def test_a_report_older_than_the_wish_says_nothing(mode: Mode) -> None:
    old = worker(mode, version=4)
    assert derive_health(facts(old, replication_status="copying")).replication_status == "copying"


def test_connecting_right_after_sync_counts_as_copying() -> None:
    for mode in (Mode.CONNECTING, Mode.HOLDING):
        case = facts(worker(mode), replication_status="copying", in_sync_grace=True, recorded_in_sync=False)
        health = derive_health(case)
        assert (health.replication_status, health.fault_level) == ("copying", "0")


def test_link_down() -> None:
    health = derive_health(facts(worker(Mode.CONNECTING), recorded_in_sync=False))
    assert (health.replication_status, health.fault_level, health.failure) == ("inactive", "5", None)


def test_a_reason_for_a_link_that_is_down_is_told_and_is_no_error() -> None:
    primary = worker(Mode.CONNECTING)
    assert primary.status is not None
    unreachable = Failure("37100043", "the other site's worker cannot be reached")
    health = derive_health(facts(replace(primary, status=replace(primary.status, failure=unreachable))))
    assert (health.replication_status, health.fault_level, health.failure) == ("inactive", "5", unreachable)
    assert pair_replication_status(health, "p-1", "d-1") == "inactive"


@pytest.mark.parametrize("settled", ReplicationStatus)
def test_only_the_arbiters_record_makes_it_active(settled: ReplicationStatus) -> None:
    """Whatever a primary says and whatever was settled, `active` promises that a failover loses nothing."""
    for mode in Mode:
        for version in (4, 5):
            case = facts(worker(mode, version=version), replication_status=settled, recorded_in_sync=False)
            assert derive_health(case).replication_status is not ReplicationStatus.ACTIVE
    gone = facts(None, replication_status=settled, recorded_in_sync=False)
    assert derive_health(gone).replication_status is not ReplicationStatus.ACTIVE


def test_a_primary_in_sync_before_and_after_the_record() -> None:
    reporting = facts(worker(Mode.IN_SYNC), replication_status="copying", recorded_in_sync=False)
    assert derive_health(reporting).replication_status == "copying"
    suspended = facts(worker(Mode.IN_SYNC), replication_status="active", recorded_in_sync=False)
    assert derive_health(suspended).replication_status == "inactive"


def test_holding_while_the_dr_side_has_everything() -> None:
    health = derive_health(facts(worker(Mode.HOLDING)))
    assert (health.replication_status, health.fault_level) == ("inactive", "2")
    assert health.failure is not None
    assert health.failure.code == "37100043"
    assert "writes wait" in health.failure.message


@pytest.mark.parametrize(
    ("primary", "connected", "cause"),
    [
        (worker(Mode.IN_SYNC), False, "the node of the primary site is not connected"),
        (replace(worker(Mode.IN_SYNC), alive=False), True, "the worker of the primary site is not running"),
        (None, True, "the worker of the primary site is not running"),
        (worker(Mode.FOLLOWING, role=Role.SECONDARY), True, "has not taken up its role as primary"),
    ],
)
def test_a_silent_production_side_is_told_with_its_fault_level(
    primary: ObservedWorker | None, connected: bool, cause: str
) -> None:
    health = derive_health(facts(primary, primary_connected=connected))
    assert (health.replication_status, health.fault_level) == ("active", "2")
    assert health.failure is not None
    assert health.failure.code == "37100043"
    assert cause in health.failure.message


@pytest.mark.parametrize(
    ("primary", "connected", "cause"),
    [
        (worker(Mode.PAUSED), False, "the node of the primary site is not connected"),
        (replace(worker(Mode.PAUSED), alive=False), True, "the worker of the primary site is not running"),
        (worker(Mode.PAUSED), True, None),
        (None, True, None),
    ],
    ids=["silent node", "dead worker", "well", "not heard of yet"],
)
def test_a_silent_production_side_is_told_also_where_no_failover_is_advised(
    primary: ObservedWorker | None, connected: bool, cause: str | None
) -> None:
    paused = facts(primary, primary_connected=connected, recorded_in_sync=False, replication="paused")
    health = derive_health(paused)
    assert health.fault_level == "0"
    assert (health.failure.message if health.failure is not None else None) == (
        None if cause is None else f"{cause}{' to the controller' if 'node' in cause else ''}"
    )


def test_holding_while_the_dr_side_is_stale() -> None:
    health = derive_health(facts(worker(Mode.HOLDING), recorded_in_sync=False))
    assert (health.replication_status, health.fault_level) == ("inactive", "5")


@pytest.mark.parametrize("mode", [Mode.CONNECTING, Mode.HOLDING, Mode.COPYING, Mode.IN_SYNC])
@pytest.mark.parametrize(("code", "passes"), [("37100043", True), ("37000216", True), ("37100177", False)])
def test_what_passes_by_itself_is_told_and_is_no_error(mode: Mode, code: str, passes: bool) -> None:
    complaint = Failure(code, "the other site's worker cannot be reached")
    living = worker(mode)
    assert living.status is not None
    health = derive_health(facts(replace(living, status=replace(living.status, failure=complaint))))
    assert health.failure == complaint
    assert (health.replication_status == "error") is not passes


def test_a_primary_that_was_replaced_though_the_database_has_it_as_primary() -> None:
    health = derive_health(facts(worker(Mode.REPLACED)))
    assert (health.replication_status, health.fault_level) == ("error", "0")
    assert health.failure is not None
    assert "older than the group" in health.failure.message


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.HOLDING, Mode.STARTING])
@pytest.mark.parametrize("consistent", [False, True])
def test_a_failover_leaves_a_consistent_pause(mode: Mode, consistent: bool) -> None:
    for status in (GroupStatus.FAILING_OVER, GroupStatus.FAILED_OVER):
        case = facts(
            worker(mode, consistent=consistent),
            status=status,
            replication=Replication.PAUSED,
            replication_status="active-stopped",
            recorded_in_sync=False,
        )
        if (mode, status) == (Mode.HOLDING, GroupStatus.FAILED_OVER):
            assert derive_health(case).replication_status == "inactive"
        else:
            assert derive_health(case).replication_status == "active-stopped"


@pytest.mark.parametrize("status", [GroupStatus.REVERSING, GroupStatus.FAILING_OVER])
@pytest.mark.parametrize("primary", [None, worker(Mode.HOLDING), worker(Mode.HANDED_OVER), worker(Mode.STARTING)])
def test_a_move_is_no_fault(status: GroupStatus, primary: ObservedWorker | None) -> None:
    assert derive_health(facts(primary, status=status)).fault_level == "0"


def test_paused_by_the_user_is_no_fault() -> None:
    health = derive_health(facts(worker(Mode.PAUSED, consistent=True), replication=Replication.PAUSED))
    assert (health.replication_status, health.fault_level) == ("active-stopped", "0")


@pytest.mark.parametrize(
    "case",
    [
        facts(worker(Mode.IN_SYNC), primary_connected=False),
        facts(None),
        facts(ObservedWorker("g", alive=False)),
        facts(ObservedWorker("g", alive=False, failure=DISK_FULL)),
        facts(worker(Mode.ERROR, consistent=True), replication_status="error"),
    ],
    ids=["node silent", "no report", "worker dead", "worker cannot start", "worker failed in sync"],
)
def test_production_side_fails_while_in_sync(case: GroupFacts) -> None:
    assert derive_health(case).fault_level == "2"


def test_production_side_fails_while_not_in_sync() -> None:
    dead = ObservedWorker("g", alive=False)
    health = derive_health(facts(dead, replication_status="copying", recorded_in_sync=False))
    assert (health.replication_status, health.fault_level) == ("inactive", "0")


def test_a_failing_secondary_shows_in_the_group_and_its_pair() -> None:
    secondary = worker(Mode.ERROR, role=Role.SECONDARY)
    assert secondary.status is not None
    broken = replace(secondary.status, members=[MemberStatus("d-1", False, failure=DISK_FULL)])
    case = facts(worker(Mode.CONNECTING), secondary=replace(secondary, status=broken), recorded_in_sync=False)
    health = derive_health(case)
    assert (health.replication_status, health.fault_level, health.failure) == ("error", "5", DISK_FULL)
    assert pair_replication_status(health, "p-1", "d-1") == "error"
    # The stream serves all members alike: the others are interrupted, not broken.
    assert pair_replication_status(health, "p-2", "d-2") == "inactive"
    assert worst([pair_replication_status(health, f"p-{n}", f"d-{n}") for n in (1, 2)]) == health.replication_status


def test_an_error_of_the_whole_worker_is_that_of_every_pair() -> None:
    failed = worker(Mode.ERROR)
    assert failed.status is not None
    health = derive_health(facts(replace(failed, status=replace(failed.status, failure=DISK_FULL))))
    assert health.failure == DISK_FULL
    assert pair_replication_status(health, "p-1", "d-1") == "error"


def test_a_failing_secondary_does_not_hide_a_stream_that_works() -> None:
    secondary = ObservedWorker("g", alive=False, failure=DISK_FULL)
    assert derive_health(facts(worker(Mode.IN_SYNC), secondary=secondary)).replication_status == "active"


def test_an_error_without_a_reason_still_says_something() -> None:
    failure = derive_health(facts(worker(Mode.ERROR))).failure
    assert failure is not None
    assert failure.code == "37000212"


def test_a_group_without_members_keeps_its_status() -> None:
    health = derive_health(facts(None, has_members=False, replication_status="inactive"))
    assert (health.replication_status, health.fault_level) == ("inactive", "0")


@pytest.mark.parametrize(
    ("status", "done", "total", "percent"),
    [
        ("active", 0, 0, 100),
        ("copying", 0, 0, 0),
        ("copying", 999, 1000, 99),
        ("copying", 1000, 1000, 100),
        ("copying", 2000, 1000, 100),
        ("inactive", 0, 0, None),
        ("inactive", 500, 1000, 50),
        ("active-stopped", 1000, 1000, 100),
    ],
)
def test_progress(status: str, done: int, total: int, percent: int | None) -> None:
    assert progress_percent(ReplicationStatus(status), done, total) == percent


READY = (worker(Mode.PAUSED), worker(Mode.FOLLOWING, role=Role.SECONDARY))


@pytest.mark.parametrize("status", GroupStatus)
def test_only_statuses_that_wait_for_workers_follow_them(status: GroupStatus) -> None:
    result, failure = group_status_after_reports(status, 5, True, *READY)
    waits = status in (GroupStatus.CREATING, GroupStatus.UPDATING, GroupStatus.ERROR)
    assert result is (GroupStatus.AVAILABLE if waits else status)
    assert failure is None


@pytest.mark.parametrize(
    ("primary", "secondary"),
    [
        (None, READY[1]),
        (READY[0], None),
        (worker(Mode.PAUSED, version=4), READY[1]),
        (READY[0], worker(Mode.FOLLOWING, role=Role.SECONDARY, version=4)),
        (worker(Mode.STARTING), READY[1]),
        (worker(Mode.FOLLOWING, role=Role.SECONDARY), READY[1]),
        (ObservedWorker("g", alive=False), READY[1]),
    ],
)
def test_a_group_waits_for_both_workers(primary: ObservedWorker | None, secondary: ObservedWorker | None) -> None:
    assert group_status_after_reports("creating", 5, True, primary, secondary) == (GroupStatus.CREATING, None)


def test_a_group_whose_worker_fails_is_in_error() -> None:
    broken = ObservedWorker("g", alive=False, failure=DISK_FULL)
    assert group_status_after_reports("creating", 5, True, READY[0], broken) == (GroupStatus.ERROR, DISK_FULL)


def test_a_disk_that_refuses_its_hosts_writes_is_told_and_keeps_no_group_from_changing() -> None:
    primary = worker(Mode.IN_SYNC)
    assert primary.status is not None
    full = replace(primary, status=replace(primary.status, members=[MemberStatus("p-1", True, failure=DISK_FULL)]))
    health = derive_health(facts(full))
    assert (health.replication_status, health.failure) == ("active", DISK_FULL)
    assert pair_replication_status(health, "p-1", "d-1") == "active"
    assert group_status_after_reports("updating", 5, True, full, READY[1]) == (GroupStatus.AVAILABLE, None)


def test_an_emptied_group_waits_until_no_worker_holds_its_volumes() -> None:
    assert group_status_after_reports("updating", 5, False, READY[0], None)[0] is GroupStatus.UPDATING
    assert group_status_after_reports("updating", 5, False, None, READY[1])[0] is GroupStatus.UPDATING
    assert group_status_after_reports("updating", 5, False, None, None)[0] is GroupStatus.AVAILABLE


def test_grace() -> None:
    now = datetime.datetime(2026, 1, 1, 12)
    assert within_grace(now - datetime.timedelta(seconds=7), now, 8)
    assert not within_grace(now - datetime.timedelta(seconds=8), now, 8)
    assert not within_grace(None, now, 8)
    assert not within_grace(now + datetime.timedelta(hours=1), now, 8)
