"""The secondary's side of a group: is this frame the next one, does it fit, and what may be acknowledged?

No I/O: `accept` checks the frames of one receive and gives them back as operations for the shell to do in order; the
shell acknowledges `applied_sequence` once after them. Flushes run in threads and are answered by their own sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from twinsite.core.limits import BLOCK_BYTES, FETCH_BYTES_MAX, UNPACKED_BYTES_MAX
from twinsite.core.stream.frames import ASKING, DIGEST_BYTES, SEED_BYTES, SEQUENCED, Frame, Kind
from twinsite.core.stream.hello import Hello
from twinsite.core.stream.packing import unpack
from twinsite.errors import PeerViolation

FIRST_SEQUENCE_MAX = 2**62
"""Later starts are refused, so that no connection lives to see the 64 bits of a sequence run out."""


def check_hello(hello: Hello, group_id: str, term: int, sizes_bytes: Mapping[int, int]) -> None:
    """Raise `PeerViolation` unless a primary's hello speaks of this group, its volumes and no past term."""
    if hello.group_id != group_id:
        raise PeerViolation(f"hello is for group {hello.group_id}, this worker runs group {group_id}")
    if hello.term < term:
        raise PeerViolation(f"hello has term {hello.term}, this side has seen term {term}: that primary was replaced")
    theirs = {index: size_bytes for index, size_bytes in hello.members}  # noqa: C416 (the pairs are lists)
    # While disks are being extended the secondary is the larger one: it grows first.
    if theirs.keys() != sizes_bytes.keys() or any(theirs[index] > sizes_bytes[index] for index in theirs):
        raise PeerViolation(f"the two sides list different volumes: primary {theirs}, secondary {dict(sizes_bytes)}")
    if not 1 <= hello.first_sequence <= FIRST_SEQUENCE_MAX:
        raise PeerViolation(f"hello starts at sequence {hello.first_sequence}")


class Secondary:
    """The order of one connection's frames. `sizes_bytes` maps a member's index to its volume's size."""

    def __init__(self, sizes_bytes: Mapping[int, int], first_sequence: int) -> None:
        self._sizes_bytes = dict(sizes_bytes)
        self.applied_sequence = first_sequence - 1

    def grow(self, sizes_bytes: Mapping[int, int]) -> None:
        """Take frames of the new range of members that have grown."""
        self._sizes_bytes.update(sizes_bytes)

    def accept(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that change something, in order; raise `PeerViolation` at the first that is not right.

        `applied_sequence` then counts them: the shell acknowledges it after doing them all.
        """
        sequence = self.applied_sequence
        sizes_bytes = self._sizes_bytes
        operations: list[Frame] = []
        unpacked_bytes = 0
        for frame in frames:
            kind, _, volume, length, number, offset, _ = frame
            if (
                kind == _WRITE
                and number == sequence + 1
                and length > 0
                and offset + length <= sizes_bytes.get(volume, -1)
            ):
                # The whole of the common case; everything below is for the others.
                sequence = number
                operations.append(frame)
                continue
            if kind not in SEQUENCED:
                if kind in _UNSEQUENCED:
                    continue
                raise PeerViolation(f"a primary does not send frames of kind {kind} here")
            sequence += 1
            if frame.sequence != sequence:
                raise PeerViolation(f"frame {frame.sequence} came where {sequence} was due")
            if kind == Kind.PACKED:
                frame = unpack(frame)  # noqa: PLW2901
                kind = frame.kind
                unpacked_bytes += frame.length
                if unpacked_bytes > UNPACKED_BYTES_MAX:
                    raise PeerViolation(f"the packed frames up to {sequence} are over {UNPACKED_BYTES_MAX} bytes")
            size_bytes = sizes_bytes.get(frame.volume)
            if size_bytes is None and kind not in (Kind.RESYNC_BEGIN, Kind.RESYNC_END):
                raise PeerViolation(f"frame {sequence} is for volume {frame.volume}, which is not in the group")
            if kind in _RANGED:
                assert size_bytes is not None
                if frame.length == 0 or frame.offset + frame.length > size_bytes:
                    raise PeerViolation(
                        f"frame {sequence} covers {frame.length} bytes at {frame.offset} of a volume of {size_bytes}"
                    )
            if kind in ASKING:
                assert size_bytes is not None
                _check_question(frame, size_bytes)
            operations.append(frame)
        self.applied_sequence = sequence
        return operations


_WRITE: Final = int(Kind.WRITE)
_UNSEQUENCED: Final = frozenset({Kind.HEARTBEAT, Kind.BYE})
_RANGED: Final = frozenset({Kind.WRITE, Kind.ZERO, Kind.COMPARE_ZERO, Kind.FETCH})


def _check_question(frame: Frame, size_bytes: int) -> None:
    problem = ""
    if frame.offset % BLOCK_BYTES:
        problem = "starts inside a block"
    elif frame.kind == Kind.FETCH and frame.length > FETCH_BYTES_MAX:
        problem = "asks for too much"
    elif frame.kind == Kind.COMPARE:
        count, rest = divmod(frame.length - SEED_BYTES, DIGEST_BYTES)
        if count < 1 or rest or frame.offset + (count - 1) * BLOCK_BYTES >= size_bytes:
            problem = f"brings {frame.length} bytes of digests for a volume of {size_bytes}"
    if problem:
        raise PeerViolation(f"frame {frame.sequence} of kind {frame.kind} at {frame.offset} {problem}")
