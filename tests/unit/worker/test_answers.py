"""How a secondary answers while it goes on applying: what is overwritten meanwhile is never said to be equal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bitarray import bitarray
from xxhash import xxh3_128_digest

from tests.support.follower import WatchedStore
from tests.support.stores import pattern
from tests.support.stream import WAIT_SECONDS
from twinsite.core.limits import BLOCK_BYTES, FETCH_BYTES_MAX, QUESTIONS_MAX
from twinsite.core.stream.frames import SEED_BYTES, Frame, Kind, decode
from twinsite.errors import PeerViolation, StorageFault
from twinsite.stores.file import create_file_store
from twinsite.worker.answers import Answers

BLOCKS = 8
SIZE = (BLOCKS - 1) * BLOCK_BYTES + 512
CONTENT = pattern(SIZE)


class Bench:
    """The answers of a session, and a store of which reads can be held."""

    def __init__(self, directory: Path) -> None:
        path = str(directory / "0.raw")
        create_file_store(path, SIZE)
        self.store = WatchedStore(path, SIZE)
        self.store.write(CONTENT, 0)
        self.executor = ThreadPoolExecutor(2)
        self.sent: list[Frame] = []
        self.answers = Answers(self.executor, self.send)
        self.asked: list[Coroutine[None, None, None]] = []

    def send(self, parts: list[bytes | bytearray | memoryview]) -> None:
        data = b"".join(parts)
        assert decode(memoryview(data), 0, len(data), self.sent) == len(data)

    def ask(self, question: Frame) -> None:
        self.asked.append(self.answers.answer(question, self.store))

    async def answered(self) -> list[Frame]:
        """Let all be read; return the answers."""
        self.store.may_read.set()
        asked, self.asked = self.asked, []
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*asked)
        sent, self.sent = self.sent, []
        return sent

    def close(self) -> None:
        self.store.may_read.set()
        self.executor.shutdown()
        for question in self.asked:
            question.close()
        self.store.close()


@pytest.fixture(name="bench")
async def fixture_bench(directory: Path) -> AsyncIterator[Bench]:
    bench = Bench(directory)
    yield bench
    bench.close()


def compare(sequence: int, first: int, count: int, content: bytes = CONTENT) -> Frame:
    """A comparison with blocks of `content`."""
    seed = 99
    blocks = [content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] for block in range(first, first + count)]
    payload = seed.to_bytes(SEED_BYTES, "big") + b"".join(xxh3_128_digest(block, seed) for block in blocks)
    return Frame(Kind.COMPARE, 0, 0, len(payload), sequence, first * BLOCK_BYTES, memoryview(payload))


def compare_zero(sequence: int, offset: int, length: int) -> Frame:
    return Frame(Kind.COMPARE_ZERO, 0, 0, length, sequence, offset, None)


def fetch(sequence: int, offset: int, length: int) -> Frame:
    return Frame(Kind.FETCH, 0, 0, length, sequence, offset, None)


def differing(answer: Frame) -> list[int]:
    """The numbers of the blocks that an answer says differ."""
    assert answer.kind == Kind.COMPARED
    assert answer.payload is not None
    bits = bitarray(buffer=answer.payload)
    return [number for number in range(len(bits)) if bits[number]]


async def test_blocks_that_differ_are_named_by_the_sequence_of_the_question(bench: Bench) -> None:
    other = bytearray(CONTENT)
    other[3 * BLOCK_BYTES] ^= 1
    other[-1] ^= 1
    bench.ask(compare(7, 2, 6, bytes(other)))
    (answer,) = await bench.answered()
    assert (answer.sequence, answer.volume, differing(answer)) == (7, 0, [1, 5])


async def test_zeros_are_compared_without_digests(bench: Bench) -> None:
    bench.store.zero(2 * BLOCK_BYTES, 2 * BLOCK_BYTES, punch=True)
    bench.ask(compare_zero(7, BLOCK_BYTES, 4 * BLOCK_BYTES))
    (answer,) = await bench.answered()
    assert differing(answer) == [0, 3]


async def test_content_is_what_the_store_holds(bench: Bench) -> None:
    bench.ask(fetch(8, BLOCK_BYTES, FETCH_BYTES_MAX))
    bench.ask(fetch(9, SIZE - 512, 512))
    answers = sorted(await bench.answered(), key=lambda answer: answer.sequence)
    assert [(answer.kind, answer.sequence, bytes(answer.payload or b"")) for answer in answers] == [
        (Kind.CONTENT, 8, CONTENT[BLOCK_BYTES : BLOCK_BYTES + FETCH_BYTES_MAX]),
        (Kind.CONTENT, 9, CONTENT[-512:]),
    ]


@pytest.mark.parametrize("is_zero", [False, True])
@pytest.mark.parametrize(
    "offset, length, overtaken",
    [
        (0, BLOCK_BYTES, []),
        (BLOCK_BYTES, 1, []),
        (2 * BLOCK_BYTES - 1, 2, [0]),
        (2 * BLOCK_BYTES, BLOCK_BYTES, [0]),
        (3 * BLOCK_BYTES - 1, 2, [0, 1]),
        (0, SIZE, [0, 1, 2]),
        (4 * BLOCK_BYTES + 5, 3 * BLOCK_BYTES, [2]),
        (5 * BLOCK_BYTES, 1, []),
        (SIZE - 1, 1, []),
    ],
)
async def test_what_is_overwritten_while_it_is_read_is_said_to_differ(
    bench: Bench, offset: int, length: int, overtaken: list[int], is_zero: bool
) -> None:
    bench.store.may_read.clear()
    if is_zero:
        bench.store.write(bytes(3 * BLOCK_BYTES), 2 * BLOCK_BYTES)  # Zeros that take space: they must be read.
        bench.ask(compare_zero(7, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES))
    else:
        bench.ask(compare(7, 2, 3))
    assert bench.answers.is_comparing
    bench.answers.touch(0, offset, length)
    (answer,) = await bench.answered()
    assert differing(answer) == overtaken
    assert not bench.answers.is_comparing


async def test_other_volumes_do_not_overtake(bench: Bench) -> None:
    bench.store.may_read.clear()
    bench.ask(compare(7, 0, 8))
    bench.answers.touch(3, 0, SIZE)
    (answer,) = await bench.answered()
    assert differing(answer) == []


async def test_each_question_knows_what_came_after_it(bench: Bench) -> None:
    bench.store.may_read.clear()
    bench.ask(compare(1, 0, 2))
    bench.answers.touch(0, 0, 1)
    bench.ask(compare(2, 0, 2))
    bench.answers.touch(0, BLOCK_BYTES, 1)
    answers = {answer.sequence: differing(answer) for answer in await bench.answered()}
    assert answers == {1: [0, 1], 2: [1]}


async def test_unreadable_blocks_are_said_to_differ_and_unreadable_content_is_a_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(buffer: bytearray | memoryview, offset: int) -> None:
        raise StorageFault("read", bench.store.path, OSError(5, "as the test wants"))

    monkeypatch.setattr(bench.store, "read_into", fail)
    bench.ask(compare(1, 0, 2))
    bench.ask(compare_zero(2, 0, 2 * BLOCK_BYTES))
    answers = await bench.answered()
    assert sorted((answer.sequence, differing(answer)) for answer in answers) == [(1, [0, 1]), (2, [0, 1])]
    bench.ask(fetch(3, 0, 512))
    with pytest.raises(StorageFault):
        await bench.answered()
    assert bench.sent == []


async def test_as_many_questions_as_may_be_open_are_and_no_more(bench: Bench) -> None:
    rng = random.Random(5)
    bench.store.may_read.clear()
    for sequence in range(QUESTIONS_MAX):
        block = rng.randrange(BLOCKS - 1)
        questions = [compare(sequence, block, 1), fetch(sequence, block * BLOCK_BYTES, 512)]
        bench.ask(rng.choice([*questions, compare_zero(sequence, 0, SIZE)]))
    with pytest.raises(PeerViolation, match="questions are open"):
        bench.ask(compare(QUESTIONS_MAX, 0, 1))
    assert len(await bench.answered()) == QUESTIONS_MAX
    bench.ask(compare(QUESTIONS_MAX, 0, 1))
    assert len(await bench.answered()) == 1


async def test_the_payload_of_a_question_is_not_kept(bench: Bench) -> None:
    bench.store.may_read.clear()
    question = compare(1, 0, 2)
    assert question.payload is not None
    buffer = bytearray(question.payload)
    with memoryview(buffer) as view:
        bench.ask(question._replace(payload=view))
        buffer[:] = bytes(len(buffer))  # The receive buffer is filled again.
    (answer,) = await bench.answered()
    assert differing(answer) == []
