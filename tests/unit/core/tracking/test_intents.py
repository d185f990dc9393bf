"""Write intents: the map of extents against a plain list, and the log's bytes against every damage."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsite.core.limits import EXTENT_BYTES
from twinsite.core.tracking.intents import (
    COLD,
    HEADER_JSON_BYTES_MAX,
    HOT,
    IDLE,
    RECORD_BYTES,
    IntentMap,
    IntentRecord,
    decode_header,
    decode_records,
    encode_header,
    encode_records,
    extents_of,
)
from twinsite.errors import PeerViolation

STATES = (COLD, IDLE, HOT)


def map_of(*states: int) -> IntentMap:
    """A map in these states."""
    intents = IntentMap(len(states) * EXTENT_BYTES)
    intents.states[:] = bytes(states)
    return intents


# The map


@pytest.mark.parametrize(
    "size_bytes, count", [(1, 1), (512, 1), (EXTENT_BYTES, 1), (EXTENT_BYTES + 1, 2), (7 * EXTENT_BYTES - 1, 7)]
)
def test_every_byte_of_a_volume_lies_in_an_extent(size_bytes: int, count: int) -> None:
    intents = IntentMap(size_bytes)
    assert intents.extent_count == count
    assert not intents.any()
    assert extents_of(size_bytes - 1, 1) == (count - 1, count)
    intents.set(0, count)
    assert intents.touch(0, size_bytes)


@pytest.mark.parametrize(
    "offset, length, extents",
    [
        (0, 1, (0, 1)),
        (EXTENT_BYTES - 1, 1, (0, 1)),
        (EXTENT_BYTES, 1, (1, 2)),
        (EXTENT_BYTES - 1, 2, (0, 2)),
        (EXTENT_BYTES, EXTENT_BYTES, (1, 2)),
        (EXTENT_BYTES, EXTENT_BYTES + 1, (1, 3)),
        (1, 3 * EXTENT_BYTES, (0, 4)),
    ],
)
def test_the_extents_of_a_range(offset: int, length: int, extents: tuple[int, int]) -> None:
    assert extents_of(offset, length) == extents


@pytest.mark.parametrize("first", STATES)
@pytest.mark.parametrize("second", STATES)
def test_a_write_may_touch_recorded_extents_only_and_makes_them_hot(first: int, second: int) -> None:
    intents = map_of(IDLE, first, second, IDLE)
    may = intents.touch(2 * EXTENT_BYTES - 1, 2)
    assert may is (COLD not in (first, second))
    assert list(intents.states) == ([IDLE, HOT, HOT, IDLE] if may else [IDLE, first, second, IDLE])


@pytest.mark.parametrize("state", STATES)
def test_what_becomes_of_an_extent(state: int) -> None:
    for change, after in (("set", HOT), ("clear", COLD)):
        intents = map_of(state, state, state)
        getattr(intents, change)(1, 1)
        assert list(intents.states) == [state, after, state]
    intents = map_of(state)
    intents.age()
    assert intents.states[0] == (COLD if state == COLD else IDLE)


def test_an_extent_goes_cold_only_after_it_was_not_touched_for_a_whole_age() -> None:
    intents = map_of(COLD, COLD)
    intents.set(0, 2)
    assert intents.idle_runs() == []
    intents.age()
    assert intents.idle_runs() == [(0, 2)]
    assert intents.touch(0, 1)
    assert intents.idle_runs() == [(1, 1)]
    intents.age()
    assert intents.idle_runs() == [(0, 2)]


@pytest.mark.parametrize("first, count", [(2, 1), (2, 5), (0, 2**32 - 1), (3, 1), (3, 100)])
def test_what_lies_behind_the_end_is_left_out(first: int, count: int) -> None:
    intents = map_of(IDLE, IDLE, IDLE)
    intents.set(first, count)
    assert list(intents.states) == [HOT if extent >= first else IDLE for extent in range(3)]
    intents.clear(first, count)
    assert list(intents.states) == [COLD if extent >= first else IDLE for extent in range(3)]


@given(st.lists(st.sampled_from(STATES), min_size=1, max_size=40), st.data())
@settings(deadline=None, print_blob=True)
def test_runs_are_whole_and_name_exactly_their_extents(states: list[int], data: st.DataObject) -> None:
    intents = map_of(*states)
    first = data.draw(st.integers(0, len(states) - 1))
    end = data.draw(st.integers(first, len(states)))
    for runs, wanted in (
        (intents.runs(), [extent for extent, state in enumerate(states) if state != COLD]),
        (intents.idle_runs(), [extent for extent, state in enumerate(states) if state == IDLE]),
        (intents.cold_runs(first, end), [extent for extent in range(first, end) if states[extent] == COLD]),
    ):
        assert [extent for start, count in runs for extent in range(start, start + count)] == wanted
        for (start, count), (following, _) in itertools.pairwise(runs):
            assert start + count < following, "neighbours are one run"
    assert intents.any() == any(states)


# The log


MEMBERS = {0: "volume a", 255: "volume b"}
RECORDS = [
    IntentRecord(0, 0, 1, True),
    IntentRecord(255, 7, 2**32 - 1, True),
    IntentRecord(0, 0, 1, False),
    IntentRecord(65535, 2**32 - 1, 0, True),
]
HEADER = encode_header(MEMBERS)
LOG = HEADER + encode_records(RECORDS)


def decoded(log: bytes) -> tuple[dict[int, str], list[IntentRecord]]:
    with memoryview(log) as view:
        members, start = decode_header(view)
        return members, list(decode_records(view, start))


def test_what_was_written_comes_back() -> None:
    assert decoded(LOG) == (MEMBERS, RECORDS)
    assert len(LOG) == len(HEADER) + len(RECORDS) * RECORD_BYTES


def test_room_for_records_to_come_holds_none() -> None:
    assert decoded(LOG + bytes(10 * RECORD_BYTES)) == (MEMBERS, RECORDS)
    assert decoded(HEADER + bytes(10 * RECORD_BYTES)) == (MEMBERS, [])


@pytest.mark.parametrize("length", range(len(LOG)))
def test_a_log_that_is_cut_short_is_a_prefix_or_none(length: int) -> None:
    if length < len(HEADER):
        with pytest.raises(PeerViolation):
            decoded(LOG[:length])
        return
    whole = (length - len(HEADER)) // RECORD_BYTES
    assert decoded(LOG[:length]) == (MEMBERS, RECORDS[:whole])
    assert decoded(LOG[:length] + bytes(len(LOG) - length)) == (MEMBERS, RECORDS[:whole])


@pytest.mark.parametrize("position", range(len(LOG)))
def test_a_byte_that_flipped_leaves_a_prefix_or_none(position: int) -> None:
    for flip in (0x01, 0x80, 0xFF):
        log = bytearray(LOG)
        log[position] ^= flip
        if position < len(HEADER):
            with pytest.raises(PeerViolation):
                decoded(bytes(log))
        else:
            whole = (position - len(HEADER)) // RECORD_BYTES
            assert decoded(bytes(log)) == (MEMBERS, RECORDS[:whole]), "no record after the damage counts"


@given(
    st.dictionaries(st.integers(0, 255), st.text(max_size=40), max_size=8),
    st.lists(
        st.builds(
            IntentRecord,
            st.integers(0, 2**16 - 1),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.binary(max_size=100),
)
@settings(deadline=None, print_blob=True)
def test_any_log_comes_back_whatever_lies_behind_it(
    members: dict[int, str], records: list[IntentRecord], rest: bytes
) -> None:
    found, read = decoded(encode_header(members) + encode_records(records) + rest)
    assert found == members
    assert read[: len(records)] == records


@given(st.binary(max_size=200))
@settings(deadline=None, print_blob=True)
def test_what_is_no_log_is_refused(content: bytes) -> None:
    with pytest.raises(PeerViolation):
        decode_header(memoryview(content))


def test_a_header_that_claims_to_be_huge_is_refused() -> None:
    body = b'{"0": "' + b"v" * HEADER_JSON_BYTES_MAX + b'"}'
    with pytest.raises(AssertionError):
        encode_header({0: "v" * HEADER_JSON_BYTES_MAX})
    huge = HEADER[:8] + len(body).to_bytes(4, "big") + HEADER[12:20] + body
    with pytest.raises(PeerViolation):
        decode_header(memoryview(huge))
