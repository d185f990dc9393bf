"""What is said of a failover before anybody asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinsite.control.lifecycle.admission import refuse_promotion
from twinsite.control.lifecycle.outlook import (
    FailoverFacts,
    Loss,
    failover_outlook,
    goes_back,
    is_known_inconsistent,
    loss_of,
    restored,
)
from twinsite.control.lifecycle.states import GroupStatus
from twinsite.control.refusals import RequestRefused
from twinsite.core.arbiter import Row, Secondary
from twinsite.messages import Failure, Mode, ObservedWorker, Role, WorkerStatus

SINCE = 1_767_225_600.0
IN_SYNC = Row(term=3, primary_site="az1", secondary=Secondary.IN_SYNC, stale_since=None, version=7)
STALE = Row(term=3, primary_site="az1", secondary=Secondary.STALE, stale_since=SINCE, version=7)


def primary(
    *,
    dirty_bytes: int = 4096,
    term: int = 3,
    alive: bool = True,
    role: Role = Role.PRIMARY,
    consistent: bool = True,
) -> ObservedWorker:
    """Return the production side's report."""
    status = WorkerStatus("g", 5, role, Mode.CONNECTING, term, [], dirty_bytes=dirty_bytes, consistent=consistent)
    return ObservedWorker("g", alive=alive, status=status)


def secondary(*, consistent: bool = True, mode: Mode = Mode.FOLLOWING, alive: bool = True) -> ObservedWorker:
    """Return the DR side's report."""
    status = WorkerStatus("g", 5, Role.SECONDARY, mode, 3, [], consistent=consistent)
    return ObservedWorker("g", alive=alive, status=status)


FACTS = FailoverFacts(
    status=GroupStatus.AVAILABLE,
    has_members=True,
    target="az2",
    target_connected=True,
    row=IN_SYNC,
    primary=primary(),
    secondary=secondary(),
    primary_connected=True,
    primary_heard=True,
)


@pytest.mark.parametrize("report", [None, primary(), primary(alive=False)])
def test_nothing_is_lost_while_the_dr_side_is_in_sync(report: ObservedWorker | None) -> None:
    outlook = failover_outlook(replace(FACTS, primary=report, secondary=secondary(consistent=False)))
    assert (outlook.possible, outlook.reason, outlook.loss) == (True, None, None)


def doubtful(report: ObservedWorker) -> ObservedWorker:
    """Return the report of a side that may have lost what it had acknowledged."""
    assert report.status is not None
    return replace(report, status=replace(report.status, doubtful=True))


@pytest.mark.parametrize("row", [IN_SYNC, STALE])
def test_a_dr_side_that_may_have_lost_writes_is_only_taken_by_force(row: Row) -> None:
    facts = replace(FACTS, row=row, secondary=doubtful(secondary()))
    outlook = failover_outlook(facts)
    assert not outlook.possible
    assert outlook.loss is not None
    assert (outlook.loss.unflushed, outlook.loss.is_stale) == (True, row is STALE)
    assert outlook.reason is not None
    assert ("not flushed by any host" in outlook.reason, "all writes since" in outlook.reason) == (True, row is STALE)
    assert "not even" not in outlook.reason


def test_what_a_dead_or_leading_worker_said_of_its_image_counts_no_more() -> None:
    for report in (replace(doubtful(secondary()), alive=False), doubtful(secondary(mode=Mode.STARTING))):
        assert failover_outlook(replace(FACTS, secondary=report)).possible


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (primary(dirty_bytes=4096), 4096),
        (primary(dirty_bytes=0), 0),
        (primary(dirty_bytes=77, alive=False), 77),
        (primary(term=2), None),
        (primary(role=Role.SECONDARY), None),
        (primary(dirty_bytes=0, consistent=False), None),
        (ObservedWorker("g", alive=False), None),
        (None, None),
    ],
    ids=["living", "nothing", "dead", "of an earlier term", "another role", "copying", "without a status", "no report"],
)
@pytest.mark.parametrize("heard", [True, False])
def test_the_loss_is_stated_as_far_as_it_is_known(
    report: ObservedWorker | None, known: int | None, heard: bool
) -> None:
    facts = replace(FACTS, row=STALE, primary=report, primary_heard=heard)
    is_bound = heard and report is not None and report.alive
    loss = Loss(SINCE, known if is_bound else None, bytes_last_reported=known)
    assert loss_of(facts) == loss
    outlook = failover_outlook(facts)
    assert (outlook.possible, outlook.loss) == (False, loss)
    assert outlook.reason is not None
    assert "2026-01-01T00:00:00 UTC" in outlook.reason
    words = f"{known} bytes when the primary was last heard of, and what was written there since, nobody knows how much"
    words = f"at most {known} bytes as last reported" if is_bound else words
    assert (words if known is not None else "nobody knows how many bytes") in outlook.reason


def test_a_silent_dr_site() -> None:
    outlook = failover_outlook(replace(FACTS, target_connected=False))
    assert (outlook.possible, outlook.reason) == (False, "the node of az2 is not connected")


def test_a_group_without_pairs() -> None:
    assert failover_outlook(replace(FACTS, has_members=False)).reason == "the group has no pairs"


@pytest.mark.parametrize("status", GroupStatus)
def test_every_status(status: GroupStatus) -> None:
    outlook = failover_outlook(replace(FACTS, status=status))
    assert outlook.possible == (status in {"available", "error_reversing", "error_failovering"})
    assert outlook.possible or outlook.reason == f"the group is {status}"


def test_after_a_promotion_a_failover_only_waits_again() -> None:
    outlook = failover_outlook(replace(FACTS, status=GroupStatus.ERROR_FAILING_OVER, row=STALE))
    assert (outlook.possible, outlook.loss) == (True, None)


BROKEN = ObservedWorker("g", alive=False, failure=Failure("37100177", "production storage is abnormal"))
FAILED = replace(FACTS, status=GroupStatus.ERROR_FAILING_OVER, row=STALE)
GONE = replace(FAILED, primary_connected=False)


@pytest.mark.parametrize("report", [None, primary(dirty_bytes=0), primary(alive=False), BROKEN])
def test_a_new_primary_that_is_out_of_reach_is_left_again_by_force(report: ObservedWorker | None) -> None:
    facts = replace(GONE, primary=report)
    assert goes_back(facts)
    outlook = failover_outlook(facts)
    # It may have begun to serve after its last report.
    assert (outlook.possible, outlook.loss) == (False, Loss(SINCE, None))
    assert outlook.reason is not None
    assert "the node of az1 is not connected, or the site was given up" in outlook.reason
    assert "goes back to az2, and loses all writes since 2026-01-01T00:00:00 UTC, nobody knows" in outlook.reason


@pytest.mark.parametrize("status", GroupStatus)
@pytest.mark.parametrize("report", [None, primary(), BROKEN])
@pytest.mark.parametrize("connected", [True, False])
def test_only_a_failover_that_failed_goes_back_and_only_from_what_cannot_be_waited_for(
    status: GroupStatus, report: ObservedWorker | None, connected: bool
) -> None:
    facts = replace(GONE, status=status, primary=report, primary_connected=connected)
    assert goes_back(facts) is (status == "error_failovering" and (report is BROKEN or not connected))


@pytest.mark.parametrize("facts", [GONE, replace(FAILED, primary=BROKEN)], ids=["out of reach", "broken"])
@pytest.mark.parametrize(
    ("former", "connected", "hindrance"),
    [
        (secondary(), False, "the node of az2 is not connected"),
        (None, True, "does not say yet"),
        (secondary(alive=False), True, "does not say yet"),
        (primary(), True, "does not say yet"),
        (secondary(consistent=False), True, "not even a forced failover is possible"),
    ],
    ids=["not connected", "no report", "dead", "still the primary", "inconsistent"],
)
def test_no_way_back_is_promised_to_a_former_primary_that_is_not_promoted(
    facts: FailoverFacts, former: ObservedWorker | None, connected: bool, hindrance: str
) -> None:
    outlook = failover_outlook(replace(facts, secondary=former, target_connected=connected))
    assert not outlook.possible
    assert outlook.reason is not None
    assert hindrance in outlook.reason
    assert "goes back" not in outlook.reason
    assert ("not heard of" in outlook.reason, "cannot serve" in outlook.reason) == (facts is GONE, facts is not GONE)


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (secondary(consistent=False), True),
        (secondary(consistent=True), False),
        (secondary(consistent=False, mode=Mode.STARTING), False),
        (secondary(consistent=False, mode=Mode.ERROR), False),
        (secondary(consistent=False, alive=False), False),
        (ObservedWorker("g", alive=True), False),
        (primary(), False),
        (None, False),
    ],
)
def test_an_image_is_inconsistent_only_by_its_own_word(report: ObservedWorker | None, known: bool) -> None:
    assert is_known_inconsistent(report) is known
    reason = failover_outlook(replace(FACTS, row=STALE, secondary=report)).reason
    assert reason is not None
    assert ("not even a forced failover" in reason) is known


@pytest.mark.parametrize("report", [None, secondary(alive=False), secondary(mode=Mode.STARTING), primary()])
def test_a_stale_dr_side_that_does_not_say_what_it_holds_is_not_even_taken_by_force(
    report: ObservedWorker | None,
) -> None:
    outlook = failover_outlook(replace(FACTS, row=STALE, secondary=report))
    assert not outlook.possible
    assert outlook.reason is not None
    assert "does not say yet" in outlook.reason
    assert failover_outlook(replace(FACTS, row=IN_SYNC, secondary=report)).possible


@pytest.mark.parametrize("point", [SINCE - 60, SINCE + 1])
def test_an_image_that_can_go_back_to_a_common_point_may_be_forced_and_nobody_knows_how_much_is_lost(
    point: float,
) -> None:
    overwritten = secondary(consistent=False)
    assert overwritten.status is not None
    report = replace(overwritten, status=replace(overwritten.status, rollback_point=point))
    assert not is_known_inconsistent(report)
    facts = replace(FACTS, row=STALE, secondary=report)
    assert loss_of(facts) == Loss(SINCE, None), "what the broken resync brought is lost too, and clocks differ"
    reason = failover_outlook(facts).reason
    assert reason is not None
    assert "2026-01-01T00:00:00 UTC" in reason


@pytest.mark.parametrize(
    ("status", "report", "way_out"),
    [
        (GroupStatus.AVAILABLE, secondary(consistent=False), "os-sync-replication-consistency-group"),
        (GroupStatus.ERROR_REVERSING, secondary(consistent=False), "os-sync-replication-consistency-group"),
        (GroupStatus.ERROR_FAILING_OVER, secondary(consistent=False), "repeat the failover without force"),
        (GroupStatus.AVAILABLE, None, "Wait until it runs"),
    ],
)
def test_no_refusal_of_a_promotion_leads_into_another_one(
    status: GroupStatus, report: ObservedWorker | None, way_out: str
) -> None:
    facts = replace(FACTS, status=status, row=STALE, secondary=report)
    with pytest.raises(RequestRefused, match=f"not even by force: .*{way_out}"):
        refuse_promotion("g-1", facts, force=True)
    # Who has not tried force yet is not sent there, where force would be refused too.
    with pytest.raises(RequestRefused) as refusal:
        refuse_promotion("g-1", facts, force=False)
    assert "force" not in refusal.value.message
    refuse_promotion("g-1", replace(facts, secondary=secondary()), force=True)
    with pytest.raises(RequestRefused, match="or accept the loss"):
        refuse_promotion("g-1", replace(facts, secondary=secondary()), force=False)


@pytest.mark.parametrize(
    ("unheard", "said"), [(["az1"], "az1 has not been heard since"), (["az1", "az2"], "az1 and az2 have not been")]
)
def test_who_has_not_been_heard_since_a_restored_backup(unheard: list[str], said: str) -> None:
    assert said in restored(unheard)
