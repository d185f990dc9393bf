"""How a secondary answers what its primary asks: which blocks differ, and what it holds.

The blocks are read in threads while later frames are applied. What those overwrite meanwhile is said to differ: the
primary then copies it, which is always right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor

from bitarray import bitarray

from twinsite.core.limits import BLOCK_BYTES, QUESTIONS_MAX
from twinsite.core.stream.frames import DIGEST_BYTES, SEED_BYTES, Frame, Kind, encode_header
from twinsite.errors import PeerViolation
from twinsite.stores.base import Store
from twinsite.worker.block_digests import compare_digests, compare_zero


class _Question:
    """A range that is being read."""

    def __init__(self, frame: Frame) -> None:
        self.volume = frame.volume
        self.sequence = frame.sequence
        self.offset = frame.offset
        self.overtaken: set[int] = set()  # Numbers of blocks within the range.

    def touch(self, offset: int, length: int, block_count: int) -> None:
        first = max(0, (offset - self.offset) // BLOCK_BYTES)
        last = min(block_count - 1, (offset + length - 1 - self.offset) // BLOCK_BYTES)
        self.overtaken.update(range(first, last + 1))


class Answers:
    """The questions of one session. `send` takes the parts of a frame."""

    def __init__(self, executor: Executor, send: Callable[[list[bytes | bytearray | memoryview]], None]) -> None:
        self._executor = executor
        self._send = send
        self._comparing: dict[_Question, int] = {}  # To the count of its blocks.
        self._open = 0

    @property
    def is_comparing(self) -> bool:
        """Say whether `touch` is to be told of what is applied."""
        return bool(self._comparing)

    def touch(self, volume: int, offset: int, length: int) -> None:
        """A range is about to be overwritten."""
        for question, block_count in self._comparing.items():
            if question.volume == volume:
                question.touch(offset, length, block_count)

    def answer(self, frame: Frame, store: Store) -> Coroutine[None, None, None]:
        """Start to read for one question; what is returned sends the answer. To be called in the order of the stream.

        Raises `PeerViolation` for more questions than may be open; what is returned raises `StorageFault` for content
        that cannot be read.
        """
        if self._open >= QUESTIONS_MAX:
            raise PeerViolation(f"more than {QUESTIONS_MAX} questions are open")
        self._open += 1
        submit = asyncio.get_running_loop().run_in_executor
        if frame.kind == Kind.FETCH:
            data = bytearray(frame.length)
            return self._fetch(frame, data, submit(self._executor, store.read_into, data, frame.offset))
        question = _Question(frame)
        if frame.kind == Kind.COMPARE_ZERO:
            self._comparing[question] = -(-frame.length // BLOCK_BYTES)
            return self._compare(question, submit(self._executor, compare_zero, store, frame.offset, frame.length))
        assert frame.payload is not None
        payload = bytes(frame.payload)
        seed, digests = int.from_bytes(payload[:SEED_BYTES], "big"), memoryview(payload)[SEED_BYTES:]
        self._comparing[question] = len(digests) // DIGEST_BYTES
        return self._compare(question, submit(self._executor, compare_digests, store, frame.offset, digests, seed))

    async def _fetch(self, frame: Frame, data: bytearray, reading: asyncio.Future[None]) -> None:
        try:
            await reading
        finally:
            self._open -= 1
        header = encode_header(Kind.CONTENT, 0, frame.volume, len(data), frame.sequence, frame.offset, data)
        self._send([header, data])

    async def _compare(self, question: _Question, reading: asyncio.Future[bitarray]) -> None:
        try:
            differs = await reading
        finally:
            self._open -= 1
            del self._comparing[question]
        for number in question.overtaken:
            differs[number] = True
        bits = differs.tobytes()
        header = encode_header(Kind.COMPARED, 0, question.volume, len(bits), question.sequence, question.offset, bits)
        self._send([header, bits])
