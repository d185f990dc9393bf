"""Undo records as bytes: what was written comes back, and what a crash cut short is told from what is whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.tracking.undo import (
    UndoHeader,
    decode_header,
    decode_records,
    encode_header,
    encode_record,
)
from twinsite.errors import PeerViolation

HEADER = UndoHeader("lineage", 12.5, {"0": 10 * BLOCK_BYTES, "7": BLOCK_BYTES})
RECORDS: list[tuple[int, int, bytes | None]] = [(0, 3, b"a" * BLOCK_BYTES), (7, 0, None), (0, 9, b"tail")]


def log_of(records: list[tuple[int, int, bytes | None]]) -> bytes:
    return encode_header(HEADER) + b"".join(part for record in records for part in encode_record(*record))


def read(log: bytes) -> tuple[UndoHeader, list[tuple[int, int, bytes | None]]]:
    view = memoryview(log)
    header, start = decode_header(view)
    records = [record for record, _ in decode_records(view, start)]
    return header, [(r.volume, r.block, None if r.data is None else bytes(r.data)) for r in records]


def test_what_was_written_comes_back() -> None:
    assert read(log_of(RECORDS)) == (HEADER, RECORDS)


def test_each_record_says_where_it_ends() -> None:
    log = log_of(RECORDS)
    view = memoryview(log)
    ends = [end for _, end in decode_records(view, decode_header(view)[1])]
    assert ends == [len(log_of(RECORDS[:count])) for count in (1, 2, 3)]


@pytest.mark.parametrize("seed", range(30))
def test_a_log_that_is_cut_short_keeps_the_records_before_the_cut(seed: int) -> None:
    log = log_of(RECORDS)
    start = len(encode_header(HEADER))
    cut = random.Random(seed).randrange(start, len(log))
    whole = [count for count in range(4) if len(log_of(RECORDS[:count])) <= cut][-1]
    assert read(log[:cut]) == (HEADER, RECORDS[:whole])


@given(st.integers(0, len(log_of(RECORDS)) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_noticed(position: int, change: int) -> None:
    log = bytearray(log_of(RECORDS))
    log[position] ^= change
    try:
        _, records = read(bytes(log))
    except PeerViolation:
        assert position < len(encode_header(HEADER))
    else:
        assert records == RECORDS[: len(records)]
        assert len(records) < len(RECORDS)


@given(st.binary(max_size=200))
def test_what_is_no_log_is_refused(data: bytes) -> None:
    with pytest.raises(PeerViolation):
        decode_header(memoryview(data))
