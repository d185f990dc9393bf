"""The questions that a secondary takes from its primary, and those that it refuses."""

from __future__ import annotations

import pytest

from twinsite.core.group.secondary import Secondary
from twinsite.core.limits import BLOCK_BYTES, FETCH_BYTES_MAX
from twinsite.core.stream.frames import DIGEST_BYTES, SEED_BYTES, Frame, Kind
from twinsite.errors import PeerViolation

SIZE = 6 * BLOCK_BYTES + 512
SIZES = {0: SIZE, 3: 512}


def ask(kind: Kind, offset: int, length: int, volume: int = 0) -> Frame:
    """A question as the codec gives it."""
    payload = memoryview(bytes(length)) if kind == Kind.COMPARE else None
    return Frame(kind, 0, volume, length, 5, offset, payload)


def compare(offset: int, count: int, volume: int = 0, surplus_bytes: int = 0) -> Frame:
    """A comparison with so many digests."""
    return ask(Kind.COMPARE, offset, SEED_BYTES + count * DIGEST_BYTES + surplus_bytes, volume)


GOOD = {
    "one block": compare(0, 1),
    "all blocks": compare(0, 7),
    "the short last block": compare(6 * BLOCK_BYTES, 1),
    "a volume of less than a block": compare(0, 1, volume=3),
    "zeros": ask(Kind.COMPARE_ZERO, BLOCK_BYTES, 5 * BLOCK_BYTES + 512),
    "zeros, ending in a block": ask(Kind.COMPARE_ZERO, 0, 1000),
    "content": ask(Kind.FETCH, BLOCK_BYTES, FETCH_BYTES_MAX),
    "content to the end": ask(Kind.FETCH, 5 * BLOCK_BYTES, BLOCK_BYTES + 512),
    "content of less than a block": ask(Kind.FETCH, 0, 512, volume=3),
}


@pytest.mark.parametrize("question", GOOD.values(), ids=GOOD)
def test_a_question_that_fits_takes_its_place_in_the_order(question: Frame) -> None:
    machine = Secondary(SIZES, first_sequence=5)
    assert machine.accept([question]) == [question]
    assert machine.applied_sequence == 5


BAD = {
    "comparison inside a block": (compare(512, 1), "starts inside a block"),
    "zeros from inside a block": (ask(Kind.COMPARE_ZERO, BLOCK_BYTES - 1, 512), "starts inside a block"),
    "content from inside a block": (ask(Kind.FETCH, 1, 512), "starts inside a block"),
    "too much content": (ask(Kind.FETCH, 0, FETCH_BYTES_MAX + 1), "asks for too much"),
    "no digest": (compare(0, 0), "bytes of digests"),
    "not even a seed": (ask(Kind.COMPARE, 0, SEED_BYTES - 1), "bytes of digests"),
    "nothing at all": (ask(Kind.COMPARE, 0, 0), "bytes of digests"),
    "half a digest": (compare(0, 1, surplus_bytes=8), "bytes of digests"),
    "a digest too many": (compare(0, 8), "bytes of digests"),
    "digests behind the end": (compare(7 * BLOCK_BYTES, 1), "bytes of digests"),
    "digests far behind the end": (compare(2**64 - BLOCK_BYTES, 1), "bytes of digests"),
    "two digests for a small volume": (compare(0, 2, volume=3), "bytes of digests"),
    "no zeros": (ask(Kind.COMPARE_ZERO, 0, 0), "0 bytes"),
    "zeros behind the end": (ask(Kind.COMPARE_ZERO, 0, SIZE + 1), "of a volume of"),
    "no content": (ask(Kind.FETCH, 0, 0), "0 bytes"),
    "content behind the end": (ask(Kind.FETCH, 6 * BLOCK_BYTES, 513), "of a volume of"),
    "comparison of a stranger": (compare(0, 1, volume=1), "not in the group"),
    "zeros of a stranger": (ask(Kind.COMPARE_ZERO, 0, 512, volume=1), "not in the group"),
    "content of a stranger": (ask(Kind.FETCH, 0, 512, volume=1), "not in the group"),
    "an answer": (ask(Kind.COMPARED, 0, 0), "does not send"),
    "content as an answer": (ask(Kind.CONTENT, 0, 0), "does not send"),
}


@pytest.mark.parametrize("question, words", BAD.values(), ids=BAD)
def test_a_question_that_does_not_fit_is_refused(question: Frame, words: str) -> None:
    machine = Secondary(SIZES, first_sequence=5)
    with pytest.raises(PeerViolation, match=words):
        machine.accept([question])
    assert machine.applied_sequence == 4


@pytest.mark.parametrize("question", GOOD.values(), ids=GOOD)
def test_a_question_out_of_order_is_refused(question: Frame) -> None:
    machine = Secondary(SIZES, first_sequence=4)
    with pytest.raises(PeerViolation, match="where 4 was due"):
        machine.accept([question])
