"""What a secondary takes from a primary, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from twinsite.core.group.secondary import Secondary, check_hello
from twinsite.core.limits import MIB, UNPACKED_BYTES_MAX
from twinsite.core.stream.frames import PROTOCOL_VERSION, Flag, Frame, Kind
from twinsite.core.stream.hello import Hello
from twinsite.core.stream.packing import pack
from twinsite.errors import PeerViolation

SIZES = {0: 8192, 3: 1000}


def frame(sequence: int, kind: int = Kind.WRITE, volume: int = 0, offset: int = 0, length: int = 512) -> Frame:
    """A frame as the codec gives it."""
    payload = memoryview(bytes(length)) if kind == Kind.WRITE else None
    return Frame(kind, 0, volume, length, sequence, offset, payload)


def test_frames_in_order_are_operations_and_are_counted() -> None:
    machine = Secondary(SIZES, first_sequence=5)
    assert machine.applied_sequence == 4
    batch = [
        frame(5, Kind.RESYNC_BEGIN, volume=0),
        frame(6, offset=8192 - 512),
        frame(7, Kind.ZERO, volume=3, length=1000),
        frame(8, Kind.FLUSH, volume=3, length=0),
        frame(9, Kind.RESYNC_END),
    ]
    assert machine.accept(batch) == batch
    assert machine.applied_sequence == 9
    assert machine.accept([frame(10)]) == [frame(10)]


def test_signs_of_life_change_nothing() -> None:
    machine = Secondary(SIZES, first_sequence=1)
    assert machine.accept([frame(0, Kind.HEARTBEAT), frame(1), frame(0, Kind.HEARTBEAT)]) == [frame(1)]
    assert machine.accept([frame(0, Kind.HEARTBEAT)]) == []
    assert machine.applied_sequence == 1


def packed(sequence: int, length: int, volume: int = 0, offset: int = 0) -> Frame:
    """A frame that stands for a write of so many bytes."""
    payload = pack(bytes(length))
    assert payload is not None
    return Frame(Kind.PACKED, Flag.RESYNC, volume, len(payload), sequence, offset, memoryview(payload))


def test_what_is_packed_becomes_a_write_in_its_place() -> None:
    machine = Secondary(SIZES, first_sequence=5)
    write = Frame(Kind.WRITE, Flag.RESYNC, 0, 8192, 6, 0, memoryview(bytes(8192)))
    assert machine.accept([frame(5), packed(6, 8192), frame(7)]) == [frame(5), write, frame(7)]
    assert machine.applied_sequence == 7


def test_what_one_receive_unpacks_to_is_bounded() -> None:
    machine = Secondary({0: MIB}, first_sequence=1)
    most = UNPACKED_BYTES_MAX // MIB
    assert len(machine.accept([packed(sequence, MIB) for sequence in range(1, most + 1)])) == most
    with pytest.raises(PeerViolation, match=f"the packed frames up to {2 * most + 1} are over"):
        machine.accept([packed(sequence, MIB) for sequence in range(most + 1, 2 * most + 2)])


@pytest.mark.parametrize(
    "bad, words",
    [
        (packed(6, 8192), "frame 6 came where 5 was due"),
        (packed(5, 512, volume=1), "volume 1, which is not in the group"),
        (packed(5, 8193), "8193 bytes at 0 of a volume of 8192"),
        (packed(5, 8192, offset=1), "8192 bytes at 1 of a volume of 8192"),
        (packed(5, 8192)._replace(payload=memoryview(b"x" * 20)), "frame 5 is packed wrongly"),
    ],
)
def test_what_is_packed_has_to_fit_as_a_write_does(bad: Frame, words: str) -> None:
    machine = Secondary(SIZES, first_sequence=5)
    with pytest.raises(PeerViolation, match=words):
        machine.accept([bad])
    assert machine.applied_sequence == 4


@pytest.mark.parametrize(
    "bad, words",
    [
        (frame(6), "frame 6 came where 5 was due"),
        (frame(4), "frame 4 came where 5 was due"),
        (frame(0), "where 5 was due"),
        (frame(2**64 - 1), "where 5 was due"),
        (frame(5, volume=1), "volume 1, which is not in the group"),
        (frame(5, Kind.FLUSH, volume=65535, length=0), "not in the group"),
        (frame(5, length=0), "0 bytes"),
        (frame(5, Kind.ZERO, length=0), "0 bytes"),
        (frame(5, offset=8192 - 511), "512 bytes at 7681 of a volume of 8192"),
        (frame(5, volume=3, offset=2**64 - 1), "of a volume of 1000"),
        (frame(5, Kind.ZERO, volume=3, length=1001), "1001 bytes at 0"),
        (frame(5, Kind.ACK), "does not send frames of kind 11"),
        (frame(5, Kind.FLUSHED), "does not send"),
        (frame(5, Kind.HELLO), "does not send"),
        (frame(5, Kind.CHALLENGE), "does not send"),
        (frame(5, Kind.WELCOME), "does not send"),
        (frame(5, 77), "does not send"),
    ],
)
def test_a_frame_that_is_not_right_is_refused_and_nothing_of_its_batch_counts(bad: Frame, words: str) -> None:
    machine = Secondary(SIZES, first_sequence=4)
    with pytest.raises(PeerViolation, match=words):
        machine.accept([frame(4), bad])
    assert machine.applied_sequence == 3


def test_a_member_that_has_grown_takes_frames_of_its_new_range_in_the_same_session() -> None:
    machine = Secondary(SIZES, first_sequence=1)
    with pytest.raises(PeerViolation, match="of a volume of 1000"):
        machine.accept([frame(1, volume=3, offset=1000)])
    machine.grow({3: 2000})
    assert machine.accept([frame(1, volume=3, offset=1000)])
    with pytest.raises(PeerViolation, match="of a volume of 8192"):
        machine.accept([frame(2, offset=8192)])


def hello(**changes: Any) -> Hello:
    """A hello that fits, but for the changes."""
    fields: dict[str, Any] = {
        "version": PROTOCOL_VERSION,
        "group_id": "group",
        "term": 2,
        "first_sequence": 1,
        "members": [[0, 8192], [3, 1000]],
        "nonce": "n",
    }
    return Hello(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"term": 3},
        {"first_sequence": 2**40},
        {"members": [[3, 1000], [0, 8192]]},
        {"members": [[0, 4096], [3, 1000]]},  # A secondary that has grown waits for its primary.
    ],
    ids=str,
)
def test_a_hello_that_fits(changes: dict[str, Any]) -> None:
    check_hello(hello(**changes), "group", 2, SIZES)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"group_id": "another"}, "runs group group"),
        ({"term": 1}, "that primary was replaced"),
        ({"members": [[0, 8192]]}, "different volumes"),
        ({"members": [[0, 8192], [3, 1001]]}, "different volumes"),
        ({"members": [[0, 8192], [4, 1000]]}, "different volumes"),
        ({"members": [[0, 8192], [3, 1000], [5, 1]]}, "different volumes"),
        ({"members": []}, "different volumes"),
        ({"first_sequence": 0}, "starts at sequence 0"),
        ({"first_sequence": -(2**70)}, "starts at sequence"),
        ({"first_sequence": 2**63}, "starts at sequence"),
    ],
    ids=str,
)
def test_a_hello_that_does_not_fit(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PeerViolation, match=words):
        check_hello(hello(**changes), "group", 2, SIZES)
