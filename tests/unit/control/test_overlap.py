"""Requests about one object that are under way at once."""

from __future__ import annotations

import contextlib

import pytest

from twinsite.control.overlap import Overlaps, UnderWay, note_change
from twinsite.control.refusals import StateRefused

REFUSAL = StateRefused("The group g-1 is 'failovering'; this needs 'available'. Wait until the failover is over.")


def status(request: UnderWay) -> int:
    """Return the status of the answer to a request that the state does not allow."""
    return request.judged(REFUSAL).status


@pytest.mark.parametrize("changes", [False, True])
def test_who_begins_before_another_ends_is_overtaken_by_its_change(changes: bool) -> None:
    overlaps = Overlaps()
    with overlaps.under_way("g-1") as early:
        with overlaps.under_way("g-1") as winner:
            if changes:
                note_change("g-1")
            with overlaps.under_way("g-1") as late:
                assert (status(early), status(late)) == ((409, 409) if changes else (400, 400))
            assert status(winner) == 400
        assert status(early) == (409 if changes else 400)
        with overlaps.under_way("g-1") as later:
            assert status(later) == 400
    assert len(overlaps) == 0


def test_other_objects_and_other_tasks_do_not_count() -> None:
    overlaps = Overlaps()
    note_change("g-1")
    with overlaps.under_way("g-1") as first, overlaps.under_way("g-2") as second:
        note_change("g-1")
        assert (first.has_changed, second.has_changed) == (False, False)
        note_change("g-2")
        assert (status(first), status(second)) == (400, 400)


def test_one_that_fails_ends_like_any_other() -> None:
    overlaps = Overlaps()
    with overlaps.under_way("g-1") as early:
        with contextlib.suppress(ValueError), overlaps.under_way("g-1"):
            note_change("g-1")
            raise ValueError
        assert status(early) == 409
        assert REFUSAL.message in early.judged(REFUSAL).message
    assert len(overlaps) == 0
