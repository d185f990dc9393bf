"""What is said of a group: a case for each row of the two tables, and something for every combination of facts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from twinsite.control.lifecycle.advice import (
    REMARKS,
    SITUATIONS,
    Advice,
    AdviceFacts,
    Pool,
    Severity,
    advice_on,
)
from twinsite.control.lifecycle.health import GroupFacts, GroupHealth, derive_health
from twinsite.control.lifecycle.outlook import FailoverFacts, failover_outlook
from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.core.arbiter import Row, Secondary
from twinsite.messages import Failure, Mode, ObservedWorker, Replication, ResyncReport, Role, WorkerStatus

SINCE = 1_767_225_600.0
SHOWN = "2026-01-01 00:00:00 UTC"
BOTH = frozenset({"az1", "az2"})
COPY = ResyncReport("full", SINCE, None, 100 * 2**20, 40 * 2**20, 0, 0, 2.0**20, 60.0)


def worker(role: Role, mode: Mode, **values: Any) -> ObservedWorker:
    """Return a report of a living worker."""
    term = values.pop("term", 1)
    return ObservedWorker("g", alive=True, status=WorkerStatus("g", 9, role, mode, term, [], **values))


def facts(
    mode: Mode | None = Mode.IN_SYNC,
    *,
    in_sync: bool | None = None,
    status: str = GroupStatus.AVAILABLE,
    settled: ReplicationStatus = ReplicationStatus.ACTIVE,
    replication: str = Replication.RUNNING,
    connected: frozenset[str] = BOTH,
    secondary: ObservedWorker | None = None,
    dead: Failure | None = None,
    row: dict[str, Any] | None = None,
    primary: dict[str, Any] | None = None,
    **changes: Any,
) -> AdviceFacts:
    """Return what is known of a group, its health derived as the controller does."""
    in_sync = mode is Mode.IN_SYNC if in_sync is None else in_sync
    state = Secondary.IN_SYNC if in_sync else Secondary.STALE
    the_row = replace(Row(1, "az1", state, None if in_sync else SINCE, 7), **(row or {}))
    follower = secondary or worker(Role.SECONDARY, Mode.FOLLOWING, consistent=True)
    leader = ObservedWorker("g", alive=False, failure=dead)
    if mode is not None:
        leader = worker(Role.PRIMARY, mode, **{"consistent": True, "term": the_row.term, **(primary or {})})
    health = derive_health(
        GroupFacts(
            status=status,
            recorded_in_sync=in_sync,
            replication=replication,
            replication_status=settled,
            wish_version=9,
            has_members=True,
            primary=leader,
            secondary=follower,
            primary_connected="az1" in connected,
            in_sync_grace=False,
        )
    )
    outlook = failover_outlook(
        FailoverFacts(
            status=status,
            has_members=True,
            target="az2",
            target_connected="az2" in connected,
            row=the_row,
            primary=leader,
            secondary=follower,
            primary_connected="az1" in connected,
            primary_heard="az1" in connected,
        )
    )
    return replace(
        AdviceFacts(
            group_id="g-1",
            name="shop",
            status=status,
            replication=replication,
            has_members=True,
            row=the_row,
            primary="az1",
            secondary="az2",
            health=replace(health, failover=outlook),
            connected=connected,
        ),
        **changes,
    )


ALONE = frozenset({"az1"})
OTHER = frozenset({"az2"})
DR_DISK = Failure("37100178", "DR storage is abnormal")
PRODUCTION_DISK = Failure("37100177", "production storage is abnormal")
INACTIVE = ReplicationStatus.INACTIVE

CASES: dict[str, tuple[AdviceFacts, Severity, list[str], str | None]] = {
    "healthy": (facts(primary={"in_sync_since": SINCE}), Severity.OK, [SHOWN, "loses nothing"], None),
    "healthy, but a failover cannot be": (
        facts(secondary=worker(Role.SECONDARY, Mode.FOLLOWING, consistent=True, doubtful=True)),
        Severity.WARNING,
        ["In sync", "not flushed by any host"],
        None,
    ),
    "healthy, but the DR node is silent": (
        facts(connected=ALONE),
        Severity.WARNING,
        ["the node of az2 does not report"],
        None,
    ),
    "empty": (facts(has_members=False), Severity.NOTICE, ["no pairs"], None),
    "restored": (
        facts(row={"unheard": ["az2"]}),
        Severity.CRITICAL,
        ["restored from a backup", "Start the node of az2"],
        None,
    ),
    "creating": (facts(Mode.PAUSED, status=GroupStatus.CREATING), Severity.NOTICE, ["being set up"], None),
    "updating without a node": (
        facts(Mode.PAUSED, status=GroupStatus.UPDATING, connected=ALONE),
        Severity.WARNING,
        ["waits for the node of az2"],
        None,
    ),
    "failing over": (facts(None, status=GroupStatus.FAILING_OVER), Severity.NOTICE, ["about to serve"], None),
    "reversing": (facts(status=GroupStatus.REVERSING), Severity.NOTICE, ["changing roles"], None),
    "failover failed": (
        facts(None, status=GroupStatus.ERROR_FAILING_OVER, failure="it did not serve in time"),
        Severity.CRITICAL,
        ["did not serve in time", "Repeat the failover"],
        "twinsite group failover shop",
    ),
    "failover failed for good": (
        facts(None, status=GroupStatus.ERROR_FAILING_OVER, dead=PRODUCTION_DISK),
        Severity.CRITICAL,
        ["goes back to az2"],
        "twinsite group plan failover --force shop",
    ),
    "failed over": (
        facts(Mode.PAUSED, status=GroupStatus.FAILED_OVER, replication=Replication.PAUSED),
        Severity.WARNING,
        [SHOWN, "az2 is there: protect the group again"],
        "twinsite group reprotect shop",
    ),
    "failed over, the old site is away": (
        facts(Mode.PAUSED, status=GroupStatus.FAILED_OVER, replication=Replication.PAUSED, connected=ALONE),
        Severity.WARNING,
        ["Bring the node of az2 back"],
        "twinsite group reprotect shop",
    ),
    "failed over, the old site is lost": (
        facts(Mode.PAUSED, status=GroupStatus.FAILED_OVER, replication=Replication.PAUSED, lost=OTHER, connected=ALONE),
        Severity.WARNING,
        ["az2 was given up"],
        None,
    ),
    "failed over, and the new site is gone": (
        facts(None, status=GroupStatus.FAILED_OVER, connected=OTHER),
        Severity.CRITICAL,
        ["the node of az1 is not connected"],
        None,
    ),
    "reversal failed": (
        facts(status=GroupStatus.ERROR_REVERSING, failure="it did not hand over in time."),
        Severity.WARNING,
        ["az1 is primary: it did not hand over in time."],
        "twinsite group sync shop",
    ),
    "replaced": (facts(Mode.REPLACED, in_sync=True), Severity.CRITICAL, ["serves nobody"], None),
    "primary lost": (
        facts(None, in_sync=True, connected=OTHER, lost=frozenset({"az1"})),
        Severity.CRITICAL,
        ["az1 was given up", "loses nothing"],
        "twinsite group failover shop",
    ),
    "primary silent": (
        facts(in_sync=True, connected=OTHER),
        Severity.CRITICAL,
        ["the node of az1 is not connected", "loses nothing"],
        "twinsite group failover shop",
    ),
    "primary silent, DR side stale": (
        facts(Mode.CONNECTING, connected=OTHER),
        Severity.CRITICAL,
        ["the node of az1 is not connected", "would lose all writes since"],
        "twinsite group plan failover shop",
    ),
    "primary silent, DR side without a copy": (
        facts(None, connected=OTHER, secondary=worker(Role.SECONDARY, Mode.FOLLOWING)),
        Severity.CRITICAL,
        ["not even a forced failover"],
        "twinsite group plan failover shop",
    ),
    "primary's worker does not start": (
        facts(None, in_sync=True, dead=PRODUCTION_DISK),
        Severity.CRITICAL,
        ["its worker in az1 is not there (production storage is abnormal)"],
        "twinsite group failover shop",
    ),
    "holding": (
        facts(Mode.HOLDING, in_sync=True, primary={"holding_since": SINCE}),
        Severity.CRITICAL,
        [f"wait since {SHOWN}", "does not reach az2", "loses nothing"],
        "twinsite group failover shop",
    ),
    "holding, writes may be missing": (
        facts(Mode.HOLDING, in_sync=True, primary={"doubtful": True}),
        Severity.CRITICAL,
        ["may lack acknowledged writes", "Bring az2 back"],
        "twinsite group failover shop",
    ),
    "holding, writes may be missing at both sites": (
        facts(
            Mode.HOLDING,
            in_sync=True,
            primary={"doubtful": True},
            secondary=worker(Role.SECONDARY, Mode.FOLLOWING, consistent=True, doubtful=True),
        ),
        Severity.CRITICAL,
        ["az1 and az2 may both lack acknowledged writes", "a person must say"],
        "twinsite group plan failover shop",
    ),
    "production fails": (
        facts(Mode.ERROR, in_sync=True, primary={"failure": PRODUCTION_DISK}),
        Severity.CRITICAL,
        ["Production in az1 fails: production storage is abnormal"],
        "twinsite group failover shop",
    ),
    "secondary lost": (
        facts(Mode.CONNECTING, connected=ALONE, lost=OTHER),
        Severity.WARNING,
        ["az2 was given up"],
        "twinsite group stop shop",
    ),
    "DR disk fails": (
        facts(Mode.CONNECTING, secondary=worker(Role.SECONDARY, Mode.ERROR, failure=DR_DISK)),
        Severity.WARNING,
        ["A DR disk in az2 fails", "DR storage is abnormal"],
        "twinsite group sync shop",
    ),
    "production disk fails, DR side stale": (
        facts(Mode.ERROR, in_sync=False, primary={"failure": PRODUCTION_DISK}),
        Severity.CRITICAL,
        ["A production disk in az1 fails", "would lose"],
        "twinsite group plan failover shop",
    ),
    "another error": (
        facts(Mode.ERROR, in_sync=False, primary={"failure": Failure("37000212", "no sense")}),
        Severity.CRITICAL,
        ["stopped by an error: no sense"],
        "twinsite group sync shop",
    ),
    "never synchronized": (
        facts(Mode.PAUSED, replication=Replication.PAUSED, settled=INACTIVE, primary={"consistent": False}),
        Severity.WARNING,
        ["never synchronized"],
        "twinsite group sync shop",
    ),
    "paused after a crash, when the primary does not know any more that the DR side was in sync": (
        facts(
            Mode.PAUSED,
            replication=Replication.PAUSED,
            settled=INACTIVE,
            primary={"consistent": False, "dirty_bytes": 2**20},
            was_in_sync=True,
        ),
        Severity.WARNING,
        [f"Paused by a user since {SHOWN}", "az2 lacks 1.0 MiB"],
        "twinsite group sync shop",
    ),
    "paused": (
        facts(Mode.PAUSED, replication=Replication.PAUSED, settled=INACTIVE, primary={"dirty_bytes": 2**20}),
        Severity.WARNING,
        [f"Paused by a user since {SHOWN}", "az2 lacks 1.0 MiB"],
        "twinsite group sync shop",
    ),
    "copying": (
        facts(Mode.COPYING, primary={"resync": COPY, "consistent": False}),
        Severity.NOTICE,
        ["60.0 MiB of 100.0 MiB to go", "1:00 left"],
        None,
    ),
    "about to copy": (facts(Mode.COPYING), Severity.NOTICE, ["connecting to az2"], None),
    "secondary silent": (
        facts(Mode.CONNECTING, connected=ALONE, primary={"dirty_bytes": 512}),
        Severity.WARNING,
        ["the node of az2 is not connected", "az2 lacks 512 B"],
        None,
    ),
    "link down": (
        facts(Mode.CONNECTING, primary={"dirty_bytes": 512, "failure": Failure("37100043", "no route")}),
        Severity.WARNING,
        [SHOWN, "az1 does not reach az2 (no route)", "az2 lacks 512 B"],
        None,
    ),
    "one disk refuses": (
        facts(primary={"failure": Failure("37000216", "a disk is full")}),
        Severity.WARNING,
        ["hosts get errors", "a disk is full"],
        None,
    ),
    "starting": (facts(Mode.STARTING, in_sync=True, settled=INACTIVE), Severity.NOTICE, ["is starting"], None),
    "not in sync and nobody says why": (
        facts(Mode.IN_SYNC, in_sync=False, settled=INACTIVE),
        Severity.WARNING,
        ["Not protected"],
        "twinsite group sync shop",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_the_matter_and_what_to_do(case: str) -> None:
    known, severity, parts, command = CASES[case]
    (advice,) = [advice for advice in advice_on(known) if advice.severity is severity][:1]
    for part in parts:
        assert part in advice.text
    assert advice.command == command
    assert advice.text.endswith((".", "done.")), advice.text
    assert ".." not in advice.text


def test_every_row_of_the_table_has_a_case() -> None:
    decided = set()
    for known, *_ in CASES.values():
        decided.add(next(rule for rule in SITUATIONS if rule(known) is not None))
    assert decided == set(SITUATIONS)


ROLLS_BACK = worker(Role.SECONDARY, Mode.FOLLOWING, rollback_point=SINCE)
REMARK_CASES: list[tuple[AdviceFacts, Severity, str]] = [
    (facts(Mode.COPYING, secondary=ROLLS_BACK, primary={"resync": COPY}), Severity.NOTICE, f"common point of {SHOWN}"),
    (
        facts(Mode.CONNECTING, secondary=worker(Role.SECONDARY, Mode.FOLLOWING, consistent=True, doubtful=True)),
        Severity.WARNING,
        "may have lost",
    ),
    (facts(pools={"az1": Pool(100, 50), "az2": Pool(1000, 99)}), Severity.WARNING, "az2 (99 B free)"),
    (facts(pools={"az1": Pool(100, 2), "az2": Pool(100, 50)}), Severity.CRITICAL, "az1 (2 B free)"),
    (facts(is_extension_stuck=True), Severity.WARNING, "extension"),
]


@pytest.mark.parametrize(("known", "severity", "part"), REMARK_CASES)
def test_what_is_said_besides(known: AdviceFacts, severity: Severity, part: str) -> None:
    (remark,) = [advice for rule in REMARKS if (advice := rule(known)) is not None]
    assert (remark.severity, part in remark.text) == (severity, True), remark
    assert remark in advice_on(known)
    assert len(advice_on(known)) == 2


def test_every_remark_has_a_case_and_none_is_made_without_need() -> None:
    made = {rule for known, *_ in REMARK_CASES for rule in REMARKS if rule(known) is not None}
    assert made == set(REMARKS)
    full = facts(pools={"az1": Pool(100, 10), "az2": Pool(100, 100), "az3": Pool(100, 0)})
    assert [advice.severity for advice in advice_on(full)] == [Severity.OK]


def test_the_worst_comes_first() -> None:
    known = facts(pools={"az1": Pool(100, 1), "az2": Pool(100, 50)}, is_extension_stuck=True)
    assert [advice.severity for advice in advice_on(known)] == [Severity.CRITICAL, Severity.WARNING, Severity.OK]


def test_something_is_said_of_every_combination() -> None:
    combinations = itertools.product(
        GroupStatus, [None, *Mode], (False, True), Replication, (BOTH, ALONE, OTHER, frozenset[str]())
    )
    check: Callable[[list[Advice]], bool] = bool
    for status, mode, in_sync, replication, connected in combinations:
        if mode in (Mode.SOLO, Mode.FOLLOWING):
            continue
        known = facts(mode, in_sync=in_sync, status=status, replication=replication, connected=connected)
        said = advice_on(known)
        assert check(said)
        for advice in said:
            assert advice.text
            assert "None" not in advice.text, advice
        if said[0].severity is Severity.OK:
            assert known.health.failover.possible, "all is not well where no failover is possible"


@pytest.mark.parametrize(
    ("name", "typed"),
    [("shop", "shop"), ("my shop", "'my shop'"), (None, "g-1"), ("--yes", "g-1"), ("a\nb", "g-1"), (" a", "g-1")],
)
def test_commands_can_be_typed(name: str | None, typed: str) -> None:
    known = facts(Mode.PAUSED, replication=Replication.PAUSED, settled=INACTIVE, name=name)
    assert advice_on(known)[0].command == f"twinsite group sync {typed}"


def test_a_group_without_any_report() -> None:
    bare = facts(health=GroupHealth(ReplicationStatus.INACTIVE))
    assert advice_on(bare)[0].severity is Severity.CRITICAL
