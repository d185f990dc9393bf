"""The arbiter's rules: every call in every state, and calls that arrive late, twice or in another order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from twinsite.core.arbiter import (
    FORCED_VERSIONS,
    FORGOTTEN_TERMS_MAX,
    FORGOTTEN_VERSIONS_MAX,
    Known,
    Reached,
    Reason,
    Refusal,
    Row,
    Secondary,
    first_row,
    forget,
    give_up,
    hear,
    promote,
    restoration_of,
    secondary_in_sync,
    suspend_secondary,
    switch,
)

IN_SYNC = Row(term=3, primary_site="az1", secondary=Secondary.IN_SYNC, stale_since=None, version=7)
STALE = replace(IN_SYNC, secondary=Secondary.STALE, stale_since=100.0)


def test_a_new_group_is_stale() -> None:
    assert first_row("az1", 5.0) == Row(1, "az1", Secondary.STALE, 5.0, 1)


@pytest.mark.parametrize("row", [IN_SYNC, STALE])
def test_the_primary_suspends_its_secondary(row: Row) -> None:
    result = suspend_secondary(row, site="az1", term=3, version=7, now=200.0)
    assert result == replace(row, secondary=Secondary.STALE, stale_since=row.stale_since or 200.0, version=8)


@pytest.mark.parametrize("row", [IN_SYNC, STALE])
def test_the_primary_reports_its_secondary_in_sync(row: Row) -> None:
    result = secondary_in_sync(row, site="az1", term=3, version=7)
    assert result == replace(row, secondary=Secondary.IN_SYNC, stale_since=None, version=8)


@pytest.mark.parametrize(
    ("site", "term", "version", "reason"),
    [
        ("az2", 3, 7, Reason.NOT_PRIMARY),
        ("az1", 2, 7, Reason.OTHER_TERM),
        ("az1", 4, 7, Reason.OTHER_TERM),
        ("az1", 3, 6, Reason.OTHER_VERSION),
        ("az1", 3, 8, Reason.OTHER_VERSION),
    ],
)
@pytest.mark.parametrize("row", [IN_SYNC, STALE])
def test_nobody_else_speaks_for_the_primary(row: Row, site: str, term: int, version: int, reason: Reason) -> None:
    assert suspend_secondary(row, site=site, term=term, version=version, now=1.0) == Refusal(reason, row)
    assert secondary_in_sync(row, site=site, term=term, version=version) == Refusal(reason, row)


@pytest.mark.parametrize(
    ("row", "site", "version", "force", "expected"),
    [
        (IN_SYNC, "az2", 7, False, None),
        (IN_SYNC, "az2", 7, True, None),
        (STALE, "az2", 7, True, None),
        (STALE, "az2", 7, False, Reason.STALE),
        (IN_SYNC, "az1", 7, False, Reason.ALREADY_PRIMARY),
        (STALE, "az1", 7, True, Reason.ALREADY_PRIMARY),
        (IN_SYNC, "az2", 6, False, Reason.OTHER_VERSION),
    ],
)
def test_promotion(row: Row, site: str, version: int, force: bool, expected: Reason | None) -> None:
    result = promote(row, site=site, version=version, force=force, now=9.0)
    if expected is None:
        assert result == Row(4, site, Secondary.STALE, 9.0, 8)
    else:
        assert result == Refusal(expected, row)


@pytest.mark.parametrize(
    ("row", "site", "term", "version", "expected"),
    [
        (IN_SYNC, "az2", 3, 7, None),
        (STALE, "az2", 3, 7, Reason.STALE),
        (IN_SYNC, "az1", 3, 7, Reason.ALREADY_PRIMARY),
        (IN_SYNC, "az2", 2, 7, Reason.OTHER_TERM),
        (IN_SYNC, "az2", 3, 6, Reason.OTHER_VERSION),
    ],
)
def test_switchover(row: Row, site: str, term: int, version: int, expected: Reason | None) -> None:
    result = switch(row, site=site, term=term, version=version)
    if expected is None:
        assert result == Row(4, site, Secondary.IN_SYNC, None, 8)
    else:
        assert result == Refusal(expected, row)


def test_a_late_report_cannot_follow_a_suspension() -> None:
    suspended = suspend_secondary(STALE, site="az1", term=3, version=7, now=1.0)
    assert isinstance(suspended, Row)
    assert secondary_in_sync(suspended, site="az1", term=3, version=7) == Refusal(Reason.OTHER_VERSION, suspended)


@pytest.mark.parametrize("seed", range(200))
def test_no_unforced_promotion_loses_what_a_primary_acknowledged_alone(seed: int) -> None:
    """Primaries that trust only their answers, a network that delays, repeats and drops calls, eager operators."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    row = first_row("az1", 0.0)
    alone: dict[tuple[str, int], bool] = {("az1", 1): True}  # Who acknowledges without its secondary, by its answers.
    seen = {("az1", 1): row}
    calls: list[tuple[str, str, int, int]] = []
    for _ in range(60):
        site, term = rng.choice(list(seen))
        known = seen[site, term]
        what = rng.choice(["suspend", "in_sync", "deliver", "deliver", "promote"])
        if what == "in_sync":
            alone[site, term] = False  # First it waits, then it asks for the record.
        if what in ("suspend", "in_sync"):
            calls.append((what, site, term, known.version))
        elif what == "promote":
            other = {"az1": "az2", "az2": "az1"}[row.primary_site]
            promoted = promote(row, site=other, version=row.version, force=False, now=0.0)
            if isinstance(promoted, Row):
                assert not alone[row.primary_site, row.term], "acknowledged writes would be lost"
                row = promoted
                alone[other, row.term] = False
                seen[other, row.term] = row
        elif calls:
            call, by, in_term, version = rng.choice(calls)  # Any of them, any number of times.
            if call == "suspend":
                result = suspend_secondary(row, site=by, term=in_term, version=version, now=0.0)
                row = result if isinstance(result, Row) else row
                if isinstance(result, Row) and rng.random() < 0.7:  # The answer may be lost.
                    seen[by, in_term] = result
                    alone[by, in_term] = True
            else:
                result = secondary_in_sync(row, site=by, term=in_term, version=version)
                row = result if isinstance(result, Row) else row
                if isinstance(result, Row) and rng.random() < 0.7:
                    seen[by, in_term] = result
            if isinstance(result, Refusal):
                seen[by, in_term] = result.row


# A database that was restored from a backup

QUESTION = "restoration 1"
NOTHING = Reached()


def plain(row: Row) -> Row:
    """Return a row without what was reached by all who have spoken."""
    return replace(row, reached=NOTHING)


def said(
    site: str,
    other_site: str,
    *,
    is_primary: bool,
    term: int,
    version: int = 0,
    in_sync: bool = False,
    stale_since: float | None = None,
) -> Known:
    """What a worker says that was asked."""
    return Known(site, other_site, is_primary, term, version, in_sync, stale_since, QUESTION)


@pytest.mark.parametrize("row", [IN_SYNC, STALE])
def test_what_was_restored_grants_nothing_before_both_sites_were_heard(row: Row) -> None:
    row = forget(row, ["az2", "az1"], QUESTION, NOTHING)
    nothing = said("az1", "az2", is_primary=True, term=3, version=7, in_sync=row.secondary is Secondary.IN_SYNC)
    for left in (["az1", "az2"], ["az2"]):
        assert row.unheard == left
        refusals = [
            suspend_secondary(row, site="az1", term=3, version=7, now=1.0),
            secondary_in_sync(row, site="az1", term=3, version=7),
            promote(row, site="az2", version=7, force=False, now=1.0),
            switch(row, site="az2", term=3, version=7),
        ]
        assert refusals == [Refusal(Reason.UNHEARD, row)] * 4
        row = hear(row, nothing)
    row = hear(row, said("az2", "az1", is_primary=False, term=3))
    assert row.unheard == []
    assert isinstance(suspend_secondary(row, site="az1", term=3, version=row.version, now=1.0), Row)


def test_only_an_answer_counts_as_heard_but_what_is_newer_is_taken_in_at_once() -> None:
    row = forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING)
    unasked = replace(said("az1", "az2", is_primary=True, term=3, version=8, stale_since=5.0), answers="")
    row = hear(row, unasked)
    assert plain(row) == replace(
        IN_SYNC, secondary=Secondary.STALE, stale_since=5.0, version=8, unheard=["az1", "az2"], question=QUESTION
    )
    assert hear(row, replace(unasked, answers="restoration 0")) == row
    assert hear(row, replace(unasked, answers=QUESTION)).unheard == ["az2"]


def test_what_is_believed_again_has_a_version_that_no_other_history_has() -> None:
    row = forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING)
    for site, other_site in (("az2", "az1"), ("az1", "az2")):
        row = hear(row, said(site, other_site, is_primary=site == "az1", term=3, version=9, in_sync=True))
    assert plain(row) == replace(IN_SYNC, version=9 + FORGOTTEN_VERSIONS_MAX)
    heard_again = hear(row, said("az1", "az2", is_primary=True, term=3, version=9, in_sync=True))
    assert heard_again == row, "once is enough"


def restored(row: Row, *known: Known) -> Row:
    row = forget(row, ["az1", "az2"], QUESTION, NOTHING)
    for one in known:
        row = hear(row, one)
    return row


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_promotion_of_a_history_that_was_left_does_not_come_back(turn: int, is_forced: bool) -> None:
    backup = STALE if is_forced else IN_SYNC
    promoted = promote(backup, site="az2", version=7, force=is_forced, now=9.0)
    assert isinstance(promoted, Row)
    # Nobody has acted on that when the database goes back to before it, and production goes on.
    primary = said("az1", "az2", is_primary=True, term=3, version=7, in_sync=not is_forced, stale_since=5.0)
    secondary = said("az2", "az1", is_primary=False, term=3, version=7)
    row = restored(backup, *[primary, secondary][::turn])
    alone = suspend_secondary(row, site="az1", term=3, version=row.version, now=11.0)
    assert isinstance(alone, Row)
    primary = replace(primary, version=alone.version, in_sync=False, stale_since=alone.stale_since)
    # Then the first database comes back, with the promotion in it.
    row = restored(promoted, *[primary, secondary][::turn])
    assert (row.primary_site, row.secondary, row.stale_since) == ("az1", Secondary.STALE, alone.stale_since)
    assert row.term > promoted.term, "somebody may have seen it"
    assert row.version > alone.version


@pytest.mark.parametrize("turn", [1, -1])
def test_a_failover_that_was_acted_on_outbids_a_history_that_was_left(turn: int) -> None:
    left = replace(IN_SYNC, term=6, primary_site="az1", version=20)  # Moved there and back since the backup, by nobody.
    row = restored(
        IN_SYNC,
        said("az1", "az2", is_primary=True, term=3, version=7, in_sync=True),
        said("az2", "az1", is_primary=False, term=3, version=7),
    )
    promoted = promote(row, site="az2", version=row.version, force=False, now=9.0)
    assert isinstance(promoted, Row)
    old = said("az1", "az2", is_primary=True, term=3, version=row.version)
    new = said("az2", "az1", is_primary=True, term=promoted.term, version=promoted.version + 1, stale_since=9.0)
    row = restored(left, *[old, new][::turn])
    assert (row.primary_site, row.secondary, row.stale_since) == ("az2", Secondary.STALE, 9.0)
    assert row.term > left.term


def test_force_goes_on_beyond_every_term_that_may_have_been_forgotten() -> None:
    promoted = promote(forget(STALE, ["az1"], QUESTION, NOTHING), site="az2", version=7, force=True, now=9.0)
    assert promoted == Row(3 + FORGOTTEN_TERMS_MAX, "az2", Secondary.STALE, 9.0, 7 + FORCED_VERSIONS)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # The primary's own last word is the row.
        (
            said("az1", "az2", is_primary=True, term=3, version=8, stale_since=5.0),
            Row(3, "az1", Secondary.STALE, 5.0, 8),
        ),
        (said("az1", "az2", is_primary=True, term=3, version=9, in_sync=True), replace(IN_SYNC, version=9)),
        # What is said of a past term, or by a secondary of this one, is nothing new.
        (said("az1", "az2", is_primary=True, term=2, version=7), IN_SYNC),
        (said("az1", "az2", is_primary=False, term=2, version=7), IN_SYNC),
        (said("az2", "az1", is_primary=False, term=3, version=7), IN_SYNC),
        # Whoever knows a later term knows who is primary in it, and nobody but the primary knows how its twin is.
        (said("az2", "az1", is_primary=True, term=4, version=9), Row(4, "az2", Secondary.STALE, None, 9)),
        (
            said("az2", "az1", is_primary=True, term=4, version=9, in_sync=True),
            Row(4, "az2", Secondary.IN_SYNC, None, 9),
        ),
        (said("az1", "az2", is_primary=False, term=4), Row(4, "az2", Secondary.STALE, None, 7)),
        (said("az2", "az1", is_primary=False, term=5), Row(5, "az1", Secondary.STALE, None, 7)),
    ],
)
def test_what_a_site_knows_is_taken_in(known: Known, expected: Row) -> None:
    assert hear(IN_SYNC, known) == expected
    unheard = forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING)
    left = [site for site in ("az1", "az2") if site != known.site]
    assert plain(hear(unheard, known)) == replace(expected, unheard=left, question=QUESTION)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # A higher version under a lower term: the row is of a history that was left, and its term may be known there.
        (said("az1", "az2", is_primary=True, term=2, version=9, stale_since=4.0), ("az1", Secondary.STALE, 4.0)),
        (said("az2", "az1", is_primary=True, term=2, version=9, in_sync=True), ("az2", Secondary.IN_SYNC, None)),
        (said("az1", "az2", is_primary=False, term=2, version=9), ("az2", Secondary.STALE, None)),
        # And another primary under the same: a term has one.
        (said("az2", "az1", is_primary=True, term=3, version=9, stale_since=4.0), ("az2", Secondary.STALE, 4.0)),
        (said("az1", "az2", is_primary=False, term=3, version=9), ("az2", Secondary.STALE, None)),
    ],
)
def test_who_is_asked_contradicts_a_row_of_a_history_that_was_left(
    known: Known, expected: tuple[str, Secondary, float | None]
) -> None:
    site, secondary, stale_since = expected
    row = Row(3 + FORGOTTEN_TERMS_MAX, site, secondary, stale_since, 9, [known.other_site], QUESTION)
    assert plain(hear(forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING), known)) == row
    assert hear(IN_SYNC, known) == IN_SYNC, "nobody is asked"
    assert hear(forget(IN_SYNC, [known.other_site], QUESTION, NOTHING), known).primary_site == "az1", (
        "it was asked before"
    )


@pytest.mark.parametrize("decide", ["promote", "give up"])
def test_what_somebody_decided_by_force_is_not_taken_back_by_who_was_not_waited_for(decide: str) -> None:
    """A backup from before an earlier restoration: the sites know of versions that are beyond its own."""
    row = forget(STALE, ["az1", "az2"], QUESTION, NOTHING)
    decided = (
        promote(row, site="az2", version=7, force=True, now=9.0)
        if decide == "promote"
        else give_up(row, ["az1", "az2"])
    )
    assert isinstance(decided, Row)
    late = [
        said("az2", "az1", is_primary=False, term=3, version=FORGOTTEN_VERSIONS_MAX + 5),
        said("az1", "az2", is_primary=True, term=3, version=FORGOTTEN_VERSIONS_MAX + 62, stale_since=8.0),
    ]
    for known in late:
        assert hear(decided, known) == decided
    again = forget(decided, ["az1", "az2"], "restoration 2", NOTHING)
    for known in late:
        again = hear(again, replace(known, answers="restoration 2"))
    assert (again.primary_site, again.term) == (decided.primary_site, decided.term)


def test_a_version_that_a_secondary_has_heard_of_counts() -> None:
    """Otherwise what is decided next would look older than it."""
    row = forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING)
    row = hear(row, said("az2", "az1", is_primary=False, term=3, version=40))
    row = hear(row, said("az1", "az2", is_primary=True, term=3, version=7, in_sync=True))
    assert plain(row) == replace(IN_SYNC, version=40 + FORGOTTEN_VERSIONS_MAX)


def test_who_knows_no_questions_is_heard_without_an_answer() -> None:
    row = hear(
        forget(IN_SYNC, ["az1"], QUESTION, NOTHING),
        replace(said("az1", "az2", is_primary=True, term=3), answers=None),
    )
    assert row.unheard == []


@pytest.mark.parametrize("version", [0, 7, FORGOTTEN_VERSIONS_MAX - 1])
def test_what_is_remembered_of_a_restoration_is_where_its_versions_begin(version: int) -> None:
    assert restoration_of(version) == 0
    assert restoration_of(version + 3 * FORGOTTEN_VERSIONS_MAX) == 3 * FORGOTTEN_VERSIONS_MAX


@pytest.mark.parametrize("version", [2, 7])
@pytest.mark.parametrize("raised", [False, True])
def test_an_answer_of_the_primary_tells_how_its_secondary_is_whatever_version_it_knows(
    version: int, raised: bool
) -> None:
    row = forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING)
    if raised:
        row = hear(row, said("az2", "az1", is_primary=False, term=3, version=40))
    stale = said("az1", "az2", is_primary=True, term=3, version=version, stale_since=5.0)
    heard = hear(row, stale)
    assert (heard.secondary, heard.stale_since, heard.version >= row.version) == (Secondary.STALE, 5.0, True)
    assert hear(row, replace(stale, in_sync=True)).secondary is Secondary.IN_SYNC
    assert plain(hear(row, replace(stale, answers=""))) == plain(row), "it was not asked yet"


def test_the_primary_is_right_where_its_secondary_only_knew_the_term() -> None:
    row = hear(IN_SYNC, said("az1", "az2", is_primary=False, term=4))
    row = hear(row, said("az2", "az1", is_primary=True, term=4, version=8, in_sync=True))
    assert row == Row(4, "az2", Secondary.IN_SYNC, None, 8)


def test_giving_up_vouches_for_nothing_and_outbids_what_was_forgotten() -> None:
    row = give_up(forget(IN_SYNC, ["az1", "az2"], QUESTION, NOTHING), ["az1"])
    version = 7 + FORCED_VERSIONS
    assert row == Row(3 + FORGOTTEN_TERMS_MAX, "az1", Secondary.STALE, None, version, ["az2"], QUESTION)
    assert give_up(row, ["az1"]) == row, "once is enough"
    late = said("az2", "az1", is_primary=True, term=4, version=90, in_sync=True)
    assert plain(hear(row, late)) == replace(row, version=version + FORGOTTEN_VERSIONS_MAX, unheard=[], question="")
    assert give_up(forget(STALE, ["az2"], QUESTION, NOTHING), ["az2"]).stale_since == STALE.stale_since


@pytest.mark.parametrize("decide", ["promote", "give up"])
def test_what_was_decided_by_force_and_reached_no_site_does_not_come_back(decide: str) -> None:
    """Its version is far beyond all that the sites know; the controller itself remembers that."""
    left = forget(STALE, ["az1", "az2"], QUESTION, NOTHING)
    decided = (
        promote(left, site="az2", version=7, force=True, now=9.0) if decide == "promote" else give_up(left, ["az1"])
    )
    assert isinstance(decided, Row)
    reached = Reached(decided.term, decided.version)
    row = forget(STALE, ["az1", "az2"], QUESTION, reached)
    for site, other_site in (("az1", "az2"), ("az2", "az1")):
        row = hear(row, said(site, other_site, is_primary=site == "az1", term=3, version=7))
    assert (row.unheard, row.term, row.primary_site) == ([], 3, "az1"), "no force is asked for here"
    assert row.version > decided.version
    row = forget(decided, ["az1", "az2"], QUESTION, Reached(decided.term, row.version))
    row = hear(row, said("az2", "az1", is_primary=False, term=3, version=restoration_of(decided.version)))
    row = hear(row, said("az1", "az2", is_primary=True, term=3, version=decided.version + FORGOTTEN_VERSIONS_MAX))
    assert (row.unheard, row.primary_site, row.secondary) == ([], "az1", Secondary.STALE)
    assert row.term > decided.term


def test_force_goes_beyond_what_was_forced_in_a_database_that_is_no_more() -> None:
    """Otherwise who knows of that takes the second decision back."""
    left = promote(forget(STALE, ["az1"], QUESTION, NOTHING), site="az2", version=7, force=True, now=9.0)
    assert isinstance(left, Row)
    older = Row(2, "az2", Secondary.STALE, 4.0, 5)
    row = forget(older, ["az1", "az2"], QUESTION, Reached(left.term, left.version))
    decided = promote(row, site="az1", version=5, force=True, now=11.0)
    assert isinstance(decided, Row)
    assert (decided.primary_site, decided.unheard, decided.question) == ("az1", [], "")
    assert hear(decided, said("az2", "az1", is_primary=True, term=left.term, version=left.version + 4)) == decided
    assert give_up(forget(older, ["az1"], QUESTION, Reached(left.term, left.version)), ["az1"]).term > left.term


@pytest.mark.parametrize("answers", ["", QUESTION])
def test_force_goes_beyond_what_those_know_who_have_spoken_on_whatever_machine(answers: str) -> None:
    """A new controller remembers nothing, and its backup is older than a restoration that jumped a thousand times."""
    row = forget(STALE, ["az1", "az2"], QUESTION, NOTHING)
    version = FORCED_VERSIONS + FORGOTTEN_VERSIONS_MAX
    row = hear(row, replace(said("az2", "az1", is_primary=False, term=3, version=version), answers=answers))
    decided = promote(row, site="az2", version=row.version, force=True, now=9.0)
    assert isinstance(decided, Row)
    assert decided.version > version
    again = forget(decided, ["az1", "az2"], "restoration 2", NOTHING)
    late = replace(said("az1", "az2", is_primary=True, term=3, version=version + 62), answers="restoration 2")
    assert hear(again, late).primary_site == "az2"
