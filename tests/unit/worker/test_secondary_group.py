"""A secondary on real files and a real port, against honest primaries that are played by the test."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.follower import SIZE, Follower, WatchedStore
from tests.support.stores import pattern
from tests.support.stream import WAIT_SECONDS, RawPrimary
from twinsite.core.limits import FRAME_PAYLOAD_BYTES_MAX
from twinsite.core.stream.frames import Frame, Kind, encode_header, encode_json
from twinsite.core.stream.hello import Doubt
from twinsite.durable_file import SystemFiles
from twinsite.errors import StorageFault
from twinsite.worker.state import ReplicaState, read_boot_id
from twinsite.worker.taking_over import return_to_common_point
from twinsite.worker.undo_log import UndoLog


@pytest.fixture(name="follower")
async def fixture_follower(tmp_path: Path) -> AsyncIterator[Follower]:
    follower = Follower(tmp_path, {0: SIZE, 1: SIZE})
    await follower.start()
    yield follower
    await follower.stop()
    follower.executor.shutdown()


def flush_frame(sequence: int, volume: int = 0) -> bytes:
    return encode_header(Kind.FLUSH, 0, volume, 0, sequence, 0)


def begin(sequence: int, generation: str = "g1") -> bytes:
    return encode_json(Kind.RESYNC_BEGIN, {"generation": generation}, sequence)


def end(sequence: int) -> bytes:
    return encode_json(Kind.RESYNC_END, {}, sequence)


# What an honest primary sees


async def test_frames_are_applied_in_order_and_acknowledged_up_to_the_last(follower: Follower) -> None:
    primary = await follower.connect()
    welcome = await primary.enter(follower.hello(first_sequence=40))
    assert (welcome.generation, welcome.consistent, welcome.doubt) == ("", False, Doubt.NONE)
    data = pattern(5000)
    header = encode_header(Kind.WRITE, 0, 0, len(data), 40, 700, data)
    zero = encode_header(Kind.ZERO, 0, 0, 1000, 41, 1000)
    await primary.send(header, data, zero)
    await primary.write(42, 0, b"other disk", volume=1)
    await primary.until(Kind.ACK, 42)
    expected = bytearray(SIZE)
    expected[700:5700] = data
    expected[1000:2000] = bytes(1000)
    assert follower.content(0) == bytes(expected)
    assert follower.content(1)[:10] == b"other disk"
    assert follower.group.acknowledged_sequence == 42
    await primary.close()
    await follower.wait(lambda: not follower.group.has_primary, "the session is over")
    assert follower.group.acknowledged_sequence == 42, "what was applied is known when the primary is lost"


async def test_a_flush_is_answered_after_the_disk_and_not_before(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    store = follower.stores[0]
    store.may_flush.clear()
    await primary.send(flush_frame(1))
    await primary.until(Kind.ACK, 1)
    await primary.send(flush_frame(2, volume=1))
    await primary.until(Kind.FLUSHED, 2)
    assert store.flush_count == 0
    store.may_flush.set()
    await primary.until(Kind.FLUSHED, 1)
    assert store.flush_count == 1
    await primary.close()


async def test_flushes_that_wait_share_one_and_each_is_answered(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    store = follower.stores[0]
    store.may_flush.clear()
    await primary.send(flush_frame(1))
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    for sequence in range(2, 12):
        await primary.write(sequence, sequence * 512, b"x" * 512)
    await primary.send(*(flush_frame(sequence) for sequence in range(12, 20)))
    await primary.until(Kind.ACK, 19)
    store.may_flush.set()
    await primary.until(Kind.FLUSHED, 1)
    answered = [frame.sequence for frame in [await primary.expect(Kind.FLUSHED) for _ in range(8)]]
    assert answered == list(range(12, 20))
    assert store.flush_count == 2
    await primary.close()


async def begin_second_resync(follower: Follower) -> RawPrimary:
    """Bring the follower a consistent image, and begin to overwrite it; sequence 4 is the next."""
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1, "first"), end(2))
    await primary.until(Kind.FLUSHED, 2)
    await primary.send(begin(3, "second"))
    await primary.until(Kind.ACK, 3)
    assert follower.directory.undo_path.exists()
    return primary


async def test_the_undo_log_outlives_what_is_being_saved_when_its_resync_ends(follower: Follower) -> None:
    primary = await begin_second_resync(follower)
    store = follower.stores[0]
    store.may_flush.clear()
    store.is_flushing.clear()
    await primary.send(end(4))
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    store.may_read.clear()
    await primary.write(5, 0, b"after the end")
    assert await asyncio.to_thread(store.is_reading.wait, WAIT_SECONDS), "the old content is being saved"
    store.may_flush.set()
    await follower.wait(lambda: follower.saved().is_consistent, "the end is recorded")
    store.may_read.set()
    answers: set[tuple[Kind, int]] = set()
    while not answers >= {(Kind.ACK, 5), (Kind.FLUSHED, 4)}:
        frame = await primary.next()
        assert frame is not None, "the stream was given up"
        if frame.kind != Kind.HEARTBEAT:
            answers.add((Kind(frame.kind), frame.sequence))
    assert not follower.directory.undo_path.exists()
    assert follower.content(0)[:13] == b"after the end"
    await primary.close()


async def test_questions_alone_do_not_wait_for_the_undo_log(follower: Follower) -> None:
    primary = await begin_second_resync(follower)
    asking = [Frame(kind, 0, 0, SIZE, 4, 0, None) for kind in (Kind.COMPARE, Kind.COMPARE_ZERO, Kind.FETCH)]
    assert not follower.group.must_save_first(asking)
    for kind in (Kind.WRITE, Kind.ZERO, Kind.FLUSH, Kind.RESYNC_BEGIN, Kind.RESYNC_END):
        assert follower.group.must_save_first([*asking, Frame(kind, 0, 0, SIZE, 7, 0, None)])
    await primary.close()


async def test_a_resync_names_the_image_durably_and_its_end_makes_it_consistent(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1, "lineage"))
    await primary.until(Kind.ACK, 1)
    assert (follower.saved().generation, follower.saved().is_consistent) == ("lineage", False)
    await primary.write(2, 0, b"x")
    await primary.send(end(3))
    await primary.until(Kind.FLUSHED, 3)
    assert (follower.saved().generation, follower.saved().is_consistent) == ("lineage", True)
    assert [store.flush_count for store in follower.stores.values()] == [1, 1]
    assert follower.group.is_consistent
    await primary.close()


async def test_the_end_of_a_session_leaves_nothing_unstable(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"x")
    await primary.until(Kind.ACK, 1)
    assert follower.saved().unstable_boot_id is not None
    await primary.close()
    await follower.wait(lambda: follower.saved().unstable_boot_id is None, "everything is flushed")
    assert all(store.flush_count for store in follower.stores.values())


async def test_a_restart_remembers_the_image(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello(term=4))
    await primary.send(begin(1, "lineage"), end(2))
    await primary.until(Kind.FLUSHED, 2)
    await follower.stop()
    await primary.close()
    await follower.start()
    again = await follower.connect()
    welcome = await again.enter(follower.hello(term=4))
    assert (welcome.term, welcome.generation, welcome.consistent, welcome.doubt) == (4, "lineage", True, Doubt.NONE)
    await again.close()


async def test_a_disk_that_was_restored_from_a_backup_is_of_no_lineage(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1), end(2))
    await primary.until(Kind.FLUSHED, 2)
    await primary.close()
    await follower.stop()
    path = Path(follower.paths[1])
    backup = path.read_bytes()
    path.unlink()
    path.write_bytes(backup)
    for _ in range(2):  # It is not forgotten by another start.
        await follower.start()
        assert not follower.group.is_consistent
        await follower.stop()
    await follower.start()
    primary = await follower.connect()
    welcome = await primary.enter(follower.hello())
    assert (welcome.generation, welcome.consistent) == ("", False)
    await primary.send(begin(1, "g2"), end(2))
    await primary.until(Kind.FLUSHED, 2)
    await primary.close()
    await follower.stop()
    await follower.start()
    assert follower.group.is_consistent


async def test_a_machine_that_restarted_over_unflushed_writes_says_so_until_a_resync_has_ended(
    follower: Follower,
) -> None:
    await follower.stop()
    follower.directory.save(ReplicaState(generation="g", is_consistent=True, unstable_boot_id="another boot"))
    await follower.start()
    for _ in range(2):
        primary = await follower.connect()
        assert (await primary.enter(follower.hello())).doubt is Doubt.RESTARTED
        assert follower.group.is_doubtful
        await primary.close()
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1), end(2))
    await primary.until(Kind.FLUSHED, 2)
    await primary.close()
    primary = await follower.connect()
    assert (await primary.enter(follower.hello())).doubt is Doubt.NONE
    await primary.close()


async def test_a_write_that_the_disk_refuses_ends_the_session_with_the_reason(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    follower.stores[0].fails_write = True
    await primary.write(1, 0, b"x")
    said = await primary.farewell()
    assert said is not None
    assert said["code"] == "37100178"
    assert "No space left" in said["message"]
    assert follower.paths[0] in said["message"]
    await primary.close()
    follower.stores[0].fails_write = False
    again = await follower.connect()
    await again.enter(follower.hello())
    await again.write(1, 0, b"y")
    await again.until(Kind.ACK, 1)
    await again.close()


async def test_the_reason_arrives_although_the_primary_goes_on_sending(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    follower.stores[0].fails_write = True
    data = bytes(FRAME_PAYLOAD_BYTES_MAX // 2)
    for sequence in range(1, 25):
        await primary.write(sequence, 0, data)
    said = await primary.farewell()
    assert said is not None, "the connection was reset before the reason was read"
    assert said["code"] == "37100178"
    await primary.close()


async def test_a_failed_flush_makes_the_image_doubtful(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    follower.stores[0].fails_flush = True
    await primary.send(flush_frame(1))
    said = await primary.farewell()
    assert said is not None
    assert said["code"] == "37100178"
    assert follower.saved().doubt is Doubt.FLUSH_FAILED


async def test_the_next_process_knows_of_a_failed_flush_although_the_state_directory_was_full(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"x")
    await primary.until(Kind.ACK, 1)

    def refuse(files: SystemFiles, path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SystemFiles, "replace", refuse)
    follower.stores[0].fails_flush = True
    await primary.send(flush_frame(2))
    assert await primary.farewell() is not None
    await follower.stop()
    monkeypatch.undo()
    await follower.start()
    again = await follower.connect()
    assert (await again.enter(follower.hello())).doubt is Doubt.FLUSH_FAILED
    await again.close()


async def test_a_resync_does_not_end_well_on_a_disk_that_has_failed_meanwhile(follower: Follower) -> None:
    """The flush of one disk was over when it failed another one, and the flush of the other disk ran still."""
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1))
    await primary.until(Kind.ACK, 1)
    slow, failing = follower.stores[1], follower.stores[0]
    slow.may_flush.clear()
    await primary.send(end(2))
    await asyncio.to_thread(slow.is_flushing.wait, WAIT_SECONDS)
    await follower.wait(lambda: failing.flush_count == 1, "the first disk is flushed")
    failing.fails_flush = True
    await primary.send(flush_frame(3))
    await follower.wait(lambda: follower.group.failed_flush is not None, "the next flush has failed")
    slow.may_flush.set()
    assert await primary.farewell() is not None
    assert (follower.saved().doubt, follower.saved().is_consistent) == (Doubt.FLUSH_FAILED, False)


async def test_an_end_waits_for_every_flush_although_one_has_failed(follower: Follower) -> None:
    """The stores are closed after it, and opened anew by whoever is next."""
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"x")
    await primary.until(Kind.ACK, 1)
    slow, failing = follower.stores[1], follower.stores[0]
    slow.may_flush.clear()
    failing.fails_flush = True
    await primary.close()
    await follower.wait(lambda: follower.group.failed_flush is not None, "the flush of one disk has failed")
    await asyncio.to_thread(slow.is_flushing.wait, WAIT_SECONDS)
    closing = asyncio.create_task(follower.group.close())
    await follower.wait(lambda: follower.saved().doubt is Doubt.FLUSH_FAILED, "that is durable")
    for _ in range(100):
        await asyncio.to_thread(time.monotonic)
    assert not closing.done()
    slow.may_flush.set()
    await closing


async def test_a_disk_that_cannot_flush_is_said_before_everything_is_copied_again(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"x")
    await primary.until(Kind.ACK, 1)
    follower.stores[0].fails_flush = True
    await primary.close()
    await follower.wait(
        lambda: follower.saved().doubt is Doubt.FLUSH_FAILED, "the flush at the session's end has failed"
    )
    again = await follower.connect()
    await again.greet(follower.hello())
    said = await again.farewell()
    assert said is not None
    assert said["code"] == "37100178"
    await again.close()
    follower.stores[0].fails_flush = False
    last = await follower.connect()
    assert (await last.enter(follower.hello())).doubt is Doubt.FLUSH_FAILED
    await last.close()


async def test_a_state_that_could_not_be_saved_keeps_nobody_out_for_ever(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"x")
    await primary.until(Kind.ACK, 1)
    obstacle = follower.directory.path / "replica.json.new"
    obstacle.mkdir()
    await primary.close()
    again = await follower.connect()
    await again.greet(follower.hello())
    said = await again.farewell()
    assert said is not None
    assert "replica.json" in said["message"]
    obstacle.rmdir()
    last = await follower.connect()
    await last.enter(follower.hello())
    await last.close()


# One primary at a time


async def test_a_newer_connection_takes_over(follower: Follower) -> None:
    first = await follower.connect()
    await first.enter(follower.hello())
    second = await follower.connect()
    await second.enter(follower.hello(first_sequence=9))
    said = await first.farewell()
    assert said is not None
    assert "took over" in said["message"]
    await second.write(9, 0, b"second")
    await second.until(Kind.ACK, 9)
    assert follower.content()[:6] == b"second"
    await first.close()
    await second.close()


@pytest.mark.parametrize("changes", [{"group_id": "another"}, {"term": 0}, {"members": [[0, SIZE]]}], ids=str)
async def test_a_hello_that_does_not_fit_replaces_nobody(follower: Follower, changes: dict[str, Any]) -> None:
    first = await follower.connect()
    await first.enter(follower.hello(term=1))
    intruder = await follower.connect()
    await intruder.greet(follower.hello(**changes))
    said = await intruder.farewell()
    assert said is not None
    assert said["code"] == "37000212"
    await first.write(1, 0, b"first")
    await first.until(Kind.ACK, 1)
    await intruder.close()
    await first.close()


async def test_a_term_that_was_seen_is_remembered(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello(term=5))
    await primary.close()
    assert follower.saved().term == 5
    late = await follower.connect()
    await late.greet(follower.hello(term=4))
    said = await late.farewell()
    assert said is not None
    assert "that primary was replaced" in said["message"]
    await late.close()


async def test_of_two_primaries_that_come_at_once_one_writes(follower: Follower) -> None:
    store = follower.stores[0]
    first = await follower.connect()
    await first.enter(follower.hello())
    store.may_flush.clear()
    await first.close()
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    rivals = [await follower.connect() for _ in range(3)]
    for rival in rivals:
        await rival.greet(follower.hello())
    store.may_flush.set()
    endings = {asyncio.create_task(rival.farewell()): rival for rival in rivals}
    alive = set(endings)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(alive) > 1:
            done, alive = await asyncio.wait(alive, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                said = task.result()
                assert said is not None
                assert "took over" in said["message"]
    (last,) = alive
    await follower.wait(lambda: follower.group.session_count == 1 + len(rivals), "the last one is in")
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    await endings[last].write(1, 0, b"x")
    await endings[last].until(Kind.ACK, 1)
    await endings[last].close()


async def test_the_end_of_a_resync_of_an_ended_session_says_nothing_about_the_next(follower: Follower) -> None:
    store = follower.stores[1]
    primary = await follower.connect()
    await primary.enter(follower.hello())
    store.may_flush.clear()
    await primary.send(begin(1, "first"), end(2))
    await primary.until(Kind.ACK, 2)
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    await primary.close()
    await follower.wait(lambda: not follower.group.has_primary, "the session is over")
    again = await follower.connect()
    await again.greet(follower.hello())
    store.may_flush.set()
    await again.expect(Kind.WELCOME)
    await again.send(begin(1, "second"))
    await again.until(Kind.ACK, 1)
    for _ in range(20):
        await asyncio.sleep(0)
    saved = follower.saved()
    assert (saved.generation, saved.is_consistent) == ("second", False)
    assert not follower.group.is_consistent
    await again.close()


async def test_signs_of_life_do_not_disturb_a_slow_handshake(follower: Follower) -> None:
    store = follower.stores[0]
    first = await follower.connect()
    await first.enter(follower.hello())
    store.may_flush.clear()
    await first.close()
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    second = await follower.connect()
    await second.greet(follower.hello())
    await second.send(encode_header(Kind.HEARTBEAT, 0, 0, 0, 0, 0))
    for _ in range(20):
        await asyncio.sleep(0)
    store.may_flush.set()
    await second.expect(Kind.WELCOME)
    await second.close()


# Members in and out


async def test_members_come_and_go_between_sessions(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1), end(2))
    await primary.until(Kind.FLUSHED, 2)
    follower.stores[2] = WatchedStore(follower.paths[2], SIZE)
    removed = follower.stores.pop(1)
    follower.sizes = {0: SIZE, 2: SIZE}
    await follower.group.change_members(follower.spec(), {2: follower.stores[2]}, [1])
    removed.close()
    assert await primary.farewell() == {"reason": "stopped"}
    assert not follower.group.is_consistent
    await primary.close()
    again = await follower.connect()
    assert not (await again.enter(follower.hello())).consistent
    await again.write(1, 0, b"added", volume=2)
    await again.until(Kind.ACK, 1)
    assert follower.content(2)[:5] == b"added"
    await again.close()


async def test_what_a_former_primary_alone_had_is_kept_when_members_change_in_the_middle_of_a_resync(
    follower: Follower,
) -> None:
    follower.stores[0].write(b"only here" + bytes(503), 0)
    follower.state.led = ["known"]
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.send(begin(1))
    await primary.write(2, 0, b"n" * 512)
    await primary.until(Kind.ACK, 2)
    removed = follower.stores.pop(1)
    follower.sizes = {0: SIZE}
    await follower.group.change_members(follower.spec(), {}, [1])
    removed.close()
    await primary.close()
    assert not follower.directory.undo_path.exists()
    (kept,) = follower.directory.path.glob("kept-*")
    assert b"only here" in kept.read_bytes()


async def test_a_primary_of_the_old_members_is_not_let_in_while_they_change(follower: Follower) -> None:
    store = follower.stores[0]
    primary = await follower.connect()
    await primary.enter(follower.hello())
    store.may_flush.clear()
    old = follower.hello()
    removed = follower.stores.pop(1)
    follower.sizes = {0: SIZE}
    changing = asyncio.create_task(follower.group.change_members(follower.spec(), {}, [1]))
    assert await primary.farewell() == {"reason": "stopped"}
    assert await asyncio.to_thread(store.is_flushing.wait, WAIT_SECONDS)
    late = await follower.connect()
    await late.greet(old)
    store.may_flush.set()
    await changing
    assert [image.rpartition(" ")[0] for image in follower.directory.load().images] == ["volume 0#0"]
    removed.close()
    said = await late.farewell()
    assert said is not None
    assert "different volumes" in said["message"]
    await late.close()
    await primary.close()


async def test_a_disk_grows_in_the_middle_of_a_session(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"before")
    await primary.until(Kind.ACK, 1)
    os.truncate(follower.paths[0], 2 * SIZE)
    follower.stores[0].grow(2 * SIZE)
    await follower.group.grow_members({0: 2 * SIZE})
    await primary.write(2, 2 * SIZE - 5, b"after")
    await primary.until(Kind.ACK, 2)
    assert follower.content(0)[:6] + follower.content(0)[-5:] == b"beforeafter"
    await primary.close()
    # A primary that has not heard of it yet is let in; one that has more than this side is not.
    smaller = await follower.connect()
    await smaller.enter(follower.hello())
    await smaller.close()
    larger = await follower.connect()
    await larger.greet(follower.hello(members=[[0, 2 * SIZE], [1, SIZE + 512]]))
    said = await larger.farewell()
    assert said is not None
    assert "different volumes" in said["message"]


async def resync_over_a_point(follower: Follower) -> RawPrimary:
    """Bring the image to a point, and begin a resync that may overwrite it; frame 5 is the next."""
    primary = await follower.connect()
    await primary.enter(follower.hello())
    await primary.write(1, 0, b"point")
    await primary.send(begin(2), end(3))
    await primary.until(Kind.FLUSHED, 3)
    await primary.send(begin(4, "g2"))
    await primary.until(Kind.ACK, 4)
    return primary


def enlarge_files(follower: Follower) -> None:
    for path in follower.paths.values():
        os.truncate(path, 2 * SIZE)


async def grow_both(follower: Follower) -> None:
    """Make both disks twice as large, in the middle of a session."""
    enlarge_files(follower)
    for store in follower.stores.values():
        store.grow(2 * SIZE)
    await follower.group.grow_members(dict.fromkeys(follower.sizes, 2 * SIZE))


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_a_resync_writes_into_a_disk_that_has_grown_is_undone_with_the_rest(
    follower: Follower, restarts: bool
) -> None:
    primary = await resync_over_a_point(follower)
    if restarts:
        enlarge_files(follower)
        await primary.close()
        await follower.stop()
        follower.sizes = dict.fromkeys(follower.sizes, 2 * SIZE)
        await follower.start()
        primary = await follower.connect()
        await primary.enter(follower.hello(first_sequence=5))
    else:
        await grow_both(follower)
    await primary.write(5, 0, b"other")
    await primary.write(6, 2 * SIZE - 5, b"other")
    await primary.until(Kind.ACK, 6)
    await primary.close()
    await follower.stop()
    follower.sizes = dict.fromkeys(follower.sizes, 2 * SIZE)
    await follower.start()
    members = follower.spec().members
    return_to_common_point(follower.directory, follower.state, members, follower.stores)
    assert follower.content(0) == b"point" + bytes(2 * SIZE - 5)


async def test_an_undo_log_that_could_not_be_written_still_covers_a_disk_that_has_grown(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = await resync_over_a_point(follower)
    await grow_both(follower)

    def is_full(*_: Any) -> None:
        raise StorageFault("write", "the undo log", OSError(errno.ENOSPC, "full"))

    with monkeypatch.context() as patching:
        patching.setattr(UndoLog, "save", is_full)
        await primary.write(5, 2 * SIZE - 5, b"other")
        await primary.farewell()
        await primary.close()
    follower.sizes = dict.fromkeys(follower.sizes, 2 * SIZE)
    primary = await follower.connect()
    await primary.enter(follower.hello(first_sequence=5))
    await primary.write(5, 2 * SIZE - 5, b"other")
    await primary.until(Kind.ACK, 5)
    await primary.close()


async def test_a_session_that_has_brought_nothing_leaves_nothing_in_doubt(follower: Follower) -> None:
    primary = await follower.connect()
    await primary.enter(follower.hello())
    assert follower.saved().unstable_boot_id is None
    await primary.write(1, 0, b"data")
    await primary.until(Kind.ACK, 1)
    assert follower.saved().unstable_boot_id == read_boot_id(), "it was acknowledged before that was on disk"
    await primary.close()
