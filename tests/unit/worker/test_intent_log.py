"""The intent log: nothing is written before it is recorded, whatever the disk does and wherever the machine stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.crash_files import CrashFiles
from tests.support.stream import WAIT_SECONDS
from twinsite.core.limits import EXTENT_BYTES, INTENT_AHEAD_EXTENTS, INTENT_LOG_RECORDS_MAX
from twinsite.core.tracking.intents import COLD, HOT, RECORD_BYTES, IntentMap, IntentRecord
from twinsite.durable_file import SystemFiles
from twinsite.errors import StorageFault
from twinsite.messages import MemberSpec
from twinsite.worker.intent_log import IntentLog, load_intents

PATH = Path("/state/intents.log")
EXTENTS = 40
SIZE = EXTENTS * EXTENT_BYTES
MEMBERS = [MemberSpec(index, f"volume {index}", SIZE) for index in (0, 3)]


class Bench:
    """A log of two cold volumes on a machine that can crash."""

    def __init__(self, files: CrashFiles | None = None) -> None:
        self.files = files if files is not None else CrashFiles()
        maps = {member.index: IntentMap(member.size_bytes) for member in MEMBERS}
        self.log = IntentLog(self.files, PATH, maps, {member.index: member.volume_id for member in MEMBERS})
        self.told: list[StorageFault | None] = []
        self._was_told = asyncio.Event()

    def record(self, first: int, count: int = 1, volume: int = 0) -> None:
        self.log.record([IntentRecord(volume, first, count, True)], self.tell)

    def tell(self, fault: StorageFault | None) -> None:
        self.told.append(fault)
        self._was_told.set()

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.told) < count:
                self._was_told.clear()
                await self._was_told.wait()

    def recorded(self, volume: int = 0) -> set[int]:
        """The extents that the maps have as recorded."""
        return extents_in(self.log.maps[volume])

    def found(self, volume: int = 0, files: CrashFiles | None = None) -> set[int]:
        """The extents that the durable log names."""
        return extents_in(load_intents(files or CrashFiles(self.files.durable), PATH, MEMBERS)[volume])


def extents_in(intents: IntentMap) -> set[int]:
    return {extent for first, count in intents.runs() for extent in range(first, first + count)}


@pytest.fixture(name="bench")
async def fixture_bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.files.may_sync.set()
    await bench.log.close()


# Recording


async def test_done_is_said_only_when_the_record_is_durable(bench: Bench) -> None:
    bench.files.may_sync.clear()
    bench.record(5, 2)
    assert await asyncio.to_thread(bench.files.is_syncing.wait, WAIT_SECONDS)
    assert (bench.told, bench.recorded(), bench.found()) == ([], set(), set())
    bench.files.may_sync.set()
    await bench.until_told(1)
    assert bench.told == [None]
    assert bench.recorded() == bench.found() == {5, 6}
    assert bench.log.maps[0].states[5] == HOT


async def test_records_that_come_while_one_is_written_share_a_sync(bench: Bench) -> None:
    bench.files.may_sync.clear()
    bench.record(0)
    await asyncio.to_thread(bench.files.is_syncing.wait, WAIT_SECONDS)
    for extent in range(1, 20):
        bench.record(extent, volume=3 if extent % 2 else 0)
    bench.files.may_sync.set()
    await bench.until_told(20)
    assert bench.told == [None] * 20
    assert bench.files.counts["sync"] == 2
    assert bench.found() == {extent for extent in range(20) if extent % 2 == 0}
    assert bench.found(3) == {extent for extent in range(20) if extent % 2}


async def test_who_waits_is_told_in_order(bench: Bench) -> None:
    order: list[int] = []
    over = asyncio.Event()
    for number in range(5):
        bench.log.record([IntentRecord(0, number, 1, True)], lambda _, number=number: order.append(number))  # type: ignore[misc]
    bench.log.record([], lambda _: over.set())
    async with asyncio.timeout(WAIT_SECONDS):
        await over.wait()
    assert order == [0, 1, 2, 3, 4]


async def test_what_goes_cold_is_cold_at_once_and_in_the_log_with_the_next_record(bench: Bench) -> None:
    bench.record(1, 3)
    await bench.until_told(1)
    bench.log.clear(0, 2, 1)
    assert bench.recorded() == {1, 3}
    assert bench.found() == {1, 2, 3}, "until then the log names too much, which is safe"
    bench.record(9)
    await bench.until_told(2)
    assert bench.found() == bench.recorded() == {1, 3, 9}


async def test_nothing_goes_cold_that_is_being_recorded_once_more(bench: Bench) -> None:
    bench.record(1)
    await bench.until_told(1)
    bench.files.is_syncing.clear()
    bench.files.may_sync.clear()
    bench.record(1)  # As for a write that came before the first record was durable.
    await asyncio.to_thread(bench.files.is_syncing.wait, WAIT_SECONDS)
    bench.log.clear(0, 1, 1)
    bench.files.may_sync.set()
    await bench.until_told(2)
    bench.record(2)
    await bench.until_told(3)
    assert bench.recorded() == bench.found() == {1, 2}, "a write to what the map has as recorded is in the log"


async def test_a_commit_covers_what_was_noted_and_is_still_cold(bench: Bench) -> None:
    bench.record(1)
    await bench.until_told(1)
    bench.log.cover(0, 0, 4)
    bench.log.cover(3, EXTENTS - 2, 100)
    await bench.log.commit()
    assert bench.found() == bench.recorded() == {0, 1, 2, 3}
    assert bench.found(3) == {EXTENTS - 2, EXTENTS - 1}


@pytest.mark.parametrize(
    "before, first, count, recorded",
    [
        ([], 5, 1, {5}),
        ([4], 5, 1, set(range(5, 5 + INTENT_AHEAD_EXTENTS))),
        ([4], EXTENTS - 1, 1, {EXTENTS - 1}),
        ([EXTENTS - 3], EXTENTS - 2, 1, {EXTENTS - 2, EXTENTS - 1}),
        ([4, 7], 5, 1, set(range(5, 5 + INTENT_AHEAD_EXTENTS)) - {7}),
        ([], 0, 1, {0}),
        ([4], 5, 12, set(range(5, 17))),
        ([6], 5, 3, {5, 7}),
    ],
)
async def test_writing_that_goes_on_into_new_extents_records_ahead(
    bench: Bench, before: list[int], first: int, count: int, recorded: set[int]
) -> None:
    for extent in before:
        bench.log.maps[0].set(extent, 1)
    records = bench.log.cold_runs(0, first * EXTENT_BYTES + 512, count * EXTENT_BYTES - 512)
    named = [extent for _, start, number, _ in records for extent in range(start, start + number)]
    assert set(named) == recorded
    assert len(named) == len(set(named))
    assert all(record.is_set and record.volume == 0 for record in records)


# Faults


@pytest.mark.parametrize("operation", ["write", "sync", "replace", "open"])
async def test_a_fault_is_told_to_all_who_wait_and_the_next_attempt_works(bench: Bench, operation: str) -> None:
    if operation in ("replace", "open"):
        # The log is written anew after an append that failed.
        bench.files.failing = {"write"}
        bench.record(30)
        await bench.until_told(1)
        bench.told.clear()
    bench.files.failing = {"open"} if operation == "open" else {operation, "replace"}
    bench.record(1)
    bench.record(2)
    await bench.until_told(2)
    assert all(isinstance(fault, StorageFault) for fault in bench.told)
    assert "intent log" in str(bench.told[0])
    assert bench.recorded() == set(), "no write may touch them"
    bench.told.clear()
    bench.files.failing = set()
    bench.record(3)
    await bench.until_told(1)
    assert bench.told == [None]
    assert bench.recorded() == {3}
    assert bench.found() >= {3}
    bench.record(4)
    await bench.until_told(2)
    assert bench.found() >= {3, 4}


async def test_what_was_recorded_before_a_fault_is_still_recorded(bench: Bench) -> None:
    bench.record(1)
    await bench.until_told(1)
    for failing in ({"write"}, {"replace"}, {"open"}, set[str]()):
        bench.files.failing = failing
        bench.record(7)
        await bench.until_told(len(bench.told) + 1)
        assert bench.found() >= bench.recorded() >= {1}
    assert bench.recorded() == {1, 7}


async def test_a_commit_that_fails_raises_and_can_be_made_again(bench: Bench) -> None:
    bench.files.failing = {"sync"}
    bench.log.cover(0, 2, 2)
    with pytest.raises(StorageFault, match="intent log"):
        await bench.log.commit()
    assert bench.recorded() == set()
    bench.files.failing = set()
    bench.log.cover(0, 2, 2)
    await bench.log.commit()
    assert bench.found() == bench.recorded() == {2, 3}


async def test_a_log_that_cannot_be_begun_says_so() -> None:
    files = CrashFiles()
    files.failing = {"replace"}
    with pytest.raises(StorageFault, match="write the intent log"):
        Bench(files)


# Its size, its members, and reading it


async def test_a_full_log_is_written_anew_with_what_is_recorded(bench: Bench) -> None:
    size = len(bench.files.contents[PATH])
    rounds = 0
    while bench.files.counts["replace"] == 1:
        rounds += 1
        assert rounds * 100 <= INTENT_LOG_RECORDS_MAX + 200
        for _ in range(99):
            bench.log.clear(3, 0, 1)
        bench.record(rounds % EXTENTS)
        await bench.until_told(rounds)
        assert bench.told == [None] * rounds
        is_appended = bench.files.counts["replace"] == 1
        assert len(bench.files.contents[PATH]) == size or not is_appended, "recording takes no space"
    assert rounds * 100 > INTENT_LOG_RECORDS_MAX
    assert bench.found() == bench.recorded() == set(range(EXTENTS))
    assert bench.found(3) == bench.recorded(3) == set()
    assert len(bench.files.contents[PATH]) < size + 200 * RECORD_BYTES


async def test_members_come_whole_and_go_and_an_index_of_another_volume_is_another(bench: Bench) -> None:
    bench.record(1)
    bench.record(2, volume=3)
    await bench.until_told(2)
    changed = [MEMBERS[0], MemberSpec(3, "another volume", SIZE), MemberSpec(7, "small volume", 512)]
    await bench.log.change_members(changed)
    everything = set(range(EXTENTS))
    assert {index: extents_in(intents) for index, intents in bench.log.maps.items()} == {0: {1}, 3: everything, 7: {0}}
    found = load_intents(CrashFiles(bench.files.durable), PATH, changed)
    assert {index: extents_in(intents) for index, intents in found.items()} == {0: {1}, 3: everything, 7: {0}}
    assert set(load_intents(CrashFiles(bench.files.durable), PATH, MEMBERS)) == {0}, "of the other it knows nothing"
    bench.record(4)
    await bench.until_told(3)
    assert bench.found() == {1, 4}


def test_a_log_that_is_not_there_knows_no_member() -> None:
    assert load_intents(CrashFiles(), PATH, MEMBERS) == {}


@pytest.mark.parametrize("content", [b"", b"short", bytes(4096), b"TWINTT01" + b"\xff" * 40])
def test_a_log_that_makes_no_sense_knows_no_member(content: bytes) -> None:
    assert load_intents(CrashFiles({PATH: content}), PATH, MEMBERS) == {}


def test_a_log_that_cannot_be_read_is_a_fault_and_not_an_empty_log() -> None:
    files = CrashFiles({PATH: b""})
    files.failing = {"read"}
    with pytest.raises(StorageFault, match="read the intent log"):
        load_intents(files, PATH, MEMBERS)


async def test_a_log_in_the_file_system(directory: Path) -> None:
    volume_ids = {member.index: member.volume_id for member in MEMBERS}
    maps = {member.index: IntentMap(member.size_bytes) for member in MEMBERS}
    log = IntentLog(SystemFiles(), directory / "log", maps, volume_ids)
    log.cover(0, 3, 2)
    await log.commit()
    await log.close()
    found = load_intents(SystemFiles(), directory / "log", MEMBERS)
    assert (extents_in(found[0]), extents_in(found[3])) == ({3, 4}, set())


async def test_closing_finishes_what_is_being_written_and_what_came_meanwhile() -> None:
    bench = Bench()
    bench.files.may_sync.clear()
    bench.record(1)
    await asyncio.to_thread(bench.files.is_syncing.wait, WAIT_SECONDS)
    bench.record(2)
    closing = asyncio.create_task(bench.log.close())
    await asyncio.sleep(0)
    assert not closing.done()
    bench.files.may_sync.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await closing
    assert bench.told == [None, None]
    assert bench.found() == {1, 2}


# Crashes


@pytest.mark.parametrize("seed", range(25))
async def test_after_a_crash_at_any_moment_the_log_names_all_that_was_allowed(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench()
    allowed: set[tuple[int, int]] = set()
    """What may have been written to and not been flushed since."""

    def allow(volume: int, extent: int) -> Callable[[StorageFault | None], None]:
        def done(fault: StorageFault | None) -> None:
            if fault is None:
                allowed.add((volume, extent))

        return done

    for _ in range(120):
        volume, extent = rng.choice([0, 3]), rng.randrange(EXTENTS)
        choice = rng.random()
        if choice < 0.5:
            bench.log.record([IntentRecord(volume, extent, 1, True)], allow(volume, extent))
        elif choice < 0.65 and bench.log.maps[volume].states[extent] != COLD:
            bench.log.clear(volume, extent, 1)
            if bench.log.maps[volume].states[extent] == COLD:
                allowed.discard((volume, extent))
        elif choice < 0.75:
            bench.files.failing = {rng.choice(["write", "sync", "replace", "open"])}
        elif choice < 0.85:
            bench.files.failing = set()
        else:
            await asyncio.sleep(rng.choice([0, 0.001]))
        must_be_named = set(allowed)
        crashed = bench.files.after_crash(rng)
        for index in (0, 3):
            named = bench.found(index, crashed)
            assert {extent for of, extent in must_be_named if of == index} <= named
    bench.files.failing = set()
    await bench.log.close()
