"""Which request a primary's doing follows from: the newest wish's, until a stream breaks by itself."""

from __future__ import annotations

from twinsite.worker.cause import Cause


def test_the_wish_that_a_role_begins_with_is_no_cause() -> None:
    cause = Cause("req-1")
    cause.hear("req-1", 0)
    assert cause.request_id == ""
    cause.hear("req-2", 0)
    assert cause.request_id == "req-2"


def test_a_stream_that_breaks_by_itself_ends_it() -> None:
    cause = Cause("")
    cause.hear("req-1", 3)
    cause.stream_broke(3, is_wanted=True)  # Attempts until the other side is there belong to the wish.
    assert cause.request_id == "req-1"
    cause.stream_broke(4, is_wanted=True)
    assert cause.request_id == ""
    cause.hear("req-1", 4)  # The same spec once more says nothing new.
    assert cause.request_id == ""
    cause.hear("req-2", 4)
    assert cause.request_id == "req-2"


def test_a_stream_that_ends_because_nobody_wants_it_any_more_does_not() -> None:
    cause = Cause("")
    cause.hear("req-1", 3)
    cause.stream_broke(4, is_wanted=False)
    assert cause.request_id == "req-1"
