"""A primary worker whose stream breaks: what hosts, the arbiter and the status see of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.leader import SIZE, Leader, differs, image, in_sync, take_resync
from tests.support.nbd import request
from tests.support.nbd_client import RawClient
from tests.support.stream import WAIT_SECONDS, FramePipe, RawPrimary, RawSecondary, acknowledge, flushed
from twinsite.core.arbiter import FORGOTTEN_VERSIONS_MAX, Reached, Row, Secondary, forget
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.nbd.constants import Command
from twinsite.core.stream.frames import PROTOCOL_VERSION, Kind, encode_header
from twinsite.core.stream.hello import Doubt, Hello
from twinsite.errors import StorageFault
from twinsite.messages import Mode, Replication, Role
from twinsite.stores.descriptor import DescriptorStore
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.state import ReplicaState, StateDirectory

DATA = b"d" * 4096


def saved(leader: Leader) -> ReplicaState:
    return StateDirectory(leader.directory / "state").load()


def fake_reboot(leader: Leader, *, in_sync: bool = False) -> None:
    """Let the stopped worker believe that its machine ended without warning and started again."""
    directory = StateDirectory(leader.directory / "state")
    state = directory.load()
    state.peer_has_all = in_sync
    state.primary_boot_id, state.is_clean, state.generation = "an earlier boot", False, ""
    directory.save(state)


def record_in_sync(leader: Leader) -> None:
    row = leader.arbiter.row
    leader.arbiter.row = replace(row, secondary=Secondary.IN_SYNC, stale_since=None, version=row.version + 1)


# Holding


async def test_a_held_write_is_not_answered_before_the_arbiter_is_back_and_says_so(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    status = await leader.wait(lambda s: s.mode is Mode.HOLDING and s.failure is not None, "holding")
    assert status.holding_since is not None
    assert status.failure is not None
    assert status.failure.code == "37100043"
    assert "arbiter" in status.failure.message
    assert leader.arbiter.has_in_sync()
    assert not writing.done()
    leader.arbiter.is_reachable = True
    await writing
    assert not leader.arbiter.has_in_sync()
    status = await leader.mode(Mode.CONNECTING)
    assert (status.holding_since, status.dirty_bytes) == (None, BLOCK_BYTES)


async def test_held_writes_are_sent_again_to_a_secondary_that_is_back_first(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    first = await pipe.expect(Kind.WRITE)
    pipe.abort()
    pipe, hello = await secondary.admit(image(name))
    assert hello.first_sequence == first.sequence
    again = await pipe.expect(Kind.WRITE)
    assert (again.sequence, again.offset, bytes(again.payload or b"")) == (first.sequence, 0, DATA)
    assert not writing.done()
    await pipe.send(acknowledge(again.sequence))
    await writing
    status = leader.worker.status()
    assert status is not None
    assert status.dirty_bytes == 0
    leader.arbiter.is_reachable = True
    await leader.mode(Mode.IN_SYNC)


@pytest.mark.parametrize("is_resumed", [True, False])
async def test_what_a_lost_connection_has_written_is_read_only_when_somebody_answers_for_it(
    leader: Leader, secondary: RawSecondary, is_resumed: bool
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    async with await RawClient.unix(f"{leader.directory}/0.sock") as client:
        await client.negotiate("volume0")
        client.send(request(Command.WRITE, 1, BLOCK_BYTES, len(DATA)), DATA)
        await pipe.expect(Kind.WRITE)
        pipe.abort()
        # Whoever writes may read what it likes meanwhile; nothing is promised to it.
        assert await leader.read(BLOCK_BYTES, len(DATA)) == DATA
    await leader.wait(lambda s: not leader.has_hosts(), "left by the host")
    await leader.wait(lambda s: s.mode is Mode.HOLDING, "holding")
    reading = asyncio.create_task(leader.read(BLOCK_BYTES + 512, 512))
    assert await leader.read(0, BLOCK_BYTES) == bytes(BLOCK_BYTES), "nobody has written there"
    assert not reading.done()
    if is_resumed:
        pipe, _ = await secondary.admit(image(name))
        again = await pipe.expect(Kind.WRITE)
        assert not reading.done()
        await pipe.send(acknowledge(again.sequence))
    else:
        leader.arbiter.is_reachable = True
    assert await reading == DATA[:512]
    leader.arbiter.is_reachable = True


async def test_a_read_that_waits_for_a_silent_secondary_keeps_nobody_busy(
    leader: Leader, secondary: RawSecondary, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    async with await RawClient.unix(f"{leader.directory}/0.sock") as client:
        await client.negotiate("volume0")
        client.send(request(Command.WRITE, 1, BLOCK_BYTES, len(DATA)), DATA)
        write = await pipe.expect(Kind.WRITE)
    await leader.wait(lambda s: not leader.has_hosts(), "left by the host")
    looks = 0
    drain = leader.group().drain

    def counted() -> None:
        nonlocal looks
        looks += 1
        drain()

    monkeypatch.setattr(leader.group(), "drain", counted)
    reading = asyncio.create_task(leader.read(BLOCK_BYTES, 512))
    await leader.wait(lambda s: leader.has_hosts(), "read from")
    for _ in range(50):
        await asyncio.sleep(0)
    assert looks < 10
    await pipe.send(acknowledge(write.sequence))
    assert await reading == DATA[:512]


async def test_what_was_sent_beside_a_read_that_waits_is_older_than_what_another_connection_sends_later(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    async with await RawClient.unix(f"{leader.directory}/0.sock") as client:
        await client.negotiate("volume0")
        client.send(request(Command.WRITE, 1, BLOCK_BYTES, len(DATA)), DATA)
        await pipe.expect(Kind.WRITE)
        pipe.abort()
    await leader.wait(lambda s: not leader.has_hosts(), "left by the host")
    async with await RawClient.unix(f"{leader.directory}/0.sock") as client:
        await client.negotiate("volume0")
        batch = request(Command.READ, 1, BLOCK_BYTES, 512) + request(Command.WRITE, 2, 0, len(DATA)) + b"b" * len(DATA)
        client.send(batch)
        await leader.wait(lambda s: s.counters.writes == 2, "written")
    await leader.wait(lambda s: not leader.has_hosts(), "left by the second host too")
    writing = asyncio.create_task(leader.write(0, b"c" * len(DATA)))
    await leader.wait(lambda s: s.counters.writes == 3, "written over")
    leader.arbiter.is_reachable = True
    await writing
    assert await leader.read(0, len(DATA)) == b"c" * len(DATA)


async def test_hosts_that_write_during_the_handshake_of_a_resumption_do_not_disturb_it(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    pipe.abort()
    pipe = await secondary.accept()
    early = asyncio.create_task(leader.write(0, DATA))
    await leader.wait(lambda s: s.counters.writes == 1, "written")
    hello = await secondary.challenge(pipe)
    late = asyncio.create_task(leader.write(BLOCK_BYTES, DATA))
    await leader.wait(lambda s: s.counters.writes == 2, "written")
    await secondary.welcome(pipe, hello, image(name))
    frames = [await pipe.expect(Kind.WRITE), await pipe.expect(Kind.WRITE)]
    assert [frame.sequence for frame in frames] == [hello.first_sequence, hello.first_sequence + 1]
    await pipe.send(acknowledge(frames[1].sequence))
    await asyncio.gather(early, late)
    leader.arbiter.is_reachable = True


async def test_a_grant_during_the_handshake_starts_the_resync_where_the_hello_said(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    pipe = await secondary.accept()
    hello = await secondary.challenge(pipe)
    leader.arbiter.is_reachable = True
    await writing
    await secondary.welcome(pipe, hello, image(name))
    frame = await pipe.next()
    if frame is None or frame.kind == Kind.BYE:
        await pipe.close()
        pipe, hello = await secondary.admit(image(name))
        frame = await pipe.next()
    assert frame is not None
    assert (frame.kind, frame.sequence) == (Kind.RESYNC_BEGIN, hello.first_sequence)


async def test_a_secondary_that_lost_writes_is_not_resumed_but_copied_to_after_a_grant(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    pipe, _ = await secondary.admit(image(name, doubt=Doubt.RESTARTED))
    assert await pipe.farewell() == {"reason": "stopped"}
    assert not writing.done()
    leader.arbiter.is_reachable = True
    await writing
    pipe, _ = await secondary.admit(image(name, doubt=Doubt.RESTARTED))
    frames, _ = await take_resync(pipe)
    assert sum(f.length for f in frames if f.kind in (Kind.WRITE, Kind.ZERO)) == SIZE


async def test_who_was_replaced_while_holding_answers_nobody_and_takes_the_volumes_away(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    writing = asyncio.create_task(leader.write(0, DATA))
    await pipe.expect(Kind.WRITE)
    pipe.abort()
    await leader.mode(Mode.HOLDING)
    leader.arbiter.promote("az2")
    leader.arbiter.is_reachable = True
    await leader.wait(lambda s: s.mode is Mode.REPLACED and not s.members[0].serving, "replaced")
    (outcome,) = await asyncio.gather(writing, return_exceptions=True)
    assert isinstance(outcome, Exception), "the write was answered"
    assert not (leader.directory / "0.sock").exists()


async def test_who_was_replaced_says_by_whom_so_that_a_restored_database_learns_it_again(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    before = await leader.wait(lambda s: s.knowledge is not None and s.knowledge.row_in_sync, "known to be in sync")
    leader.arbiter.promote("az2")
    pipe.abort()
    after = await leader.wait(lambda s: s.mode is Mode.REPLACED, "replaced")
    assert before.knowledge is not None and after.knowledge is not None
    assert (before.knowledge.term, before.knowledge.is_primary) == (1, True)
    assert (after.knowledge.term, after.knowledge.is_primary) == (2, False)
    assert after.knowledge.row_version > before.knowledge.row_version


async def test_a_row_that_is_not_believed_is_told_to_no_other_database(leader: Leader, secondary: RawSecondary) -> None:
    """It may be of a history that the sites have left; its version would contradict one that they have not."""
    pipe, _ = await in_sync(leader, secondary)
    before = await leader.wait(lambda s: s.knowledge is not None and s.knowledge.row_in_sync, "known to be in sync")
    row = leader.arbiter.promote("az2")
    leader.arbiter.row = forget(replace(row, version=row.version + 7), ["az1", "az2"], "which", Reached())
    pipe.abort()
    after = await leader.wait(lambda s: s.failure is not None and "restored" in s.failure.message, "not granted")
    assert after.knowledge == before.knowledge


async def test_a_bad_spec_keeps_nobody_served_who_was_replaced(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    pipe.abort()
    await leader.mode(Mode.HOLDING)
    leader.give(replace(leader.spec(), stream_key="xyz"))
    await leader.mode(Mode.ERROR)
    leader.arbiter.promote("az2")
    leader.arbiter.is_reachable = True
    await leader.wait(lambda s: not s.members[0].serving, "not served any more")


# Stopping


async def test_a_pause_is_not_in_force_before_its_grant(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    spec = leader.give(leader.spec())
    status = await leader.wait(lambda s: s.failure is not None, "told why it waits")
    assert status.spec_version != spec.version
    writing = asyncio.create_task(leader.write(0, DATA))
    frame = await pipe.expect(Kind.WRITE)
    assert not writing.done()
    await pipe.send(acknowledge(frame.sequence))
    await writing
    leader.arbiter.is_reachable = True
    status = await leader.wait(lambda s: s.spec_version == spec.version, "paused")
    assert (status.mode, status.consistent) == (Mode.PAUSED, True)
    assert not leader.arbiter.has_in_sync()


async def test_members_do_not_change_before_the_grant_and_a_newer_spec_may_come_meanwhile(
    leader: Leader, secondary: RawSecondary
) -> None:
    await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    leader.members.append(leader.member(1, 1))
    leader.give(leader.spec())
    await leader.wait(lambda s: s.failure is not None, "told why it waits")
    del leader.members[1]
    await leader.put(leader.spec(endpoint=secondary.endpoint))


async def test_who_was_replaced_before_its_members_changed_can_still_become_a_secondary(
    leader: Leader, secondary: RawSecondary
) -> None:
    await in_sync(leader, secondary)
    leader.arbiter.promote("az2")
    leader.members.append(leader.member(1, 1))
    leader.give(leader.spec())
    await leader.wait(lambda s: not s.members[0].serving, "not served any more")
    status = await leader.put(leader.spec(role=Role.SECONDARY, term=2))
    assert status.mode is Mode.FOLLOWING


# Starting


async def test_nobody_is_served_before_the_start_is_confirmed(leader: Leader) -> None:
    await leader.stop()
    leader.arbiter.is_reachable = False
    leader.start()
    leader.give(leader.spec())
    await leader.wait(lambda s: s.failure is not None, "told why it waits")
    assert not (leader.directory / "0.sock").exists()
    leader.arbiter.is_reachable = True
    status = await leader.wait(lambda s: s.members[0].serving, "served")
    assert status.mode is Mode.PAUSED
    await leader.write(0, DATA)


async def test_after_a_reboot_while_in_sync_it_never_goes_on_alone_however_often_it_starts(leader: Leader) -> None:
    await leader.stop()
    fake_reboot(leader, in_sync=True)
    record_in_sync(leader)
    for _ in range(3):
        leader.start()
        leader.give(leader.spec())
        status = await leader.wait(lambda s: s.failure is not None, "told why it waits")
        assert status.failure is not None
        assert (status.failure.code, "restarted" in status.failure.message) == ("37100177", True)
        assert leader.arbiter.has_in_sync()
        assert not (leader.directory / "0.sock").exists()
        await leader.stop()
    leader.start()
    # A grant that the primary before the crash asked for does not bring the writes back.
    leader.arbiter.row = replace(leader.arbiter.row, secondary=Secondary.STALE)
    leader.give(leader.spec())
    await leader.wait(lambda s: s.failure is not None, "told why it waits")
    assert not leader.arbiter.has_in_sync()
    await leader.put(replace(leader.spec(), loss_acceptances=1))
    await leader.write(0, DATA)
    await leader.stop()
    assert saved(leader).is_clean
    leader.start()
    record_in_sync(leader)
    await leader.put(leader.spec())
    await leader.stop()
    fake_reboot(leader, in_sync=True)
    leader.start()
    # What an operator accepted then is not accepted for ever.
    leader.give(replace(leader.spec(), loss_acceptances=1))
    await leader.wait(lambda s: s.failure is not None, "told why it waits")


async def test_after_a_reboot_while_stale_it_goes_on(leader: Leader) -> None:
    await leader.stop()
    fake_reboot(leader)
    leader.start()
    status = await leader.put(leader.spec())
    assert (status.mode, status.dirty_bytes) == (Mode.PAUSED, SIZE)


async def test_a_follower_whose_machine_restarted_is_healed_by_the_other_side_when_it_leads(
    leader: Leader, secondary: RawSecondary
) -> None:
    _, name = await in_sync(leader, secondary)
    await leader.pause()
    status = await leader.put(leader.spec(role=Role.SECONDARY, term=2))
    assert status.stream_endpoint is not None
    other = await RawPrimary.connect(status.stream_endpoint)
    await other.enter(Hello(PROTOCOL_VERSION, "group", 2, 1, [[0, SIZE]], "n"))
    await other.write(1, 0, DATA)
    await other.until(Kind.ACK, 1)
    await other.close()
    await leader.stop()
    directory = StateDirectory(leader.directory / "state")
    state = directory.load()
    assert (state.generation, state.is_consistent) == (name, True)
    state.unstable_boot_id = "an earlier boot"
    directory.save(state)
    leader.lead(3)
    leader.start()
    leader.give(leader.spec(endpoint=secondary.endpoint, term=3))
    status = await leader.wait(lambda s: s.doubtful, "in doubt")
    pipe, _ = await secondary.admit(image(name))
    content = await heal(pipe, leader.directory / "0.raw")
    await leader.mode(Mode.IN_SYNC)
    assert (leader.directory / "0.raw").read_bytes() == content
    assert await leader.read(BLOCK_BYTES, BLOCK_BYTES) == content[BLOCK_BYTES : 2 * BLOCK_BYTES]


async def heal(pipe: FramePipe, image_path: Path) -> bytes:
    """Let a primary take what differs: here every block. Returns what the secondary holds."""
    size_bytes = image_path.stat().st_size
    content = random.Random(7).randbytes(size_bytes)
    fetched = 0
    while fetched < size_bytes:
        frame = await pipe.next()
        assert frame is not None
        await pipe.send(acknowledge(frame.sequence))
        if frame.kind in (Kind.COMPARE, Kind.COMPARE_ZERO):
            await pipe.send(differs(frame))
        elif frame.kind == Kind.FETCH:
            assert not image_path.with_suffix(".sock").exists(), "it serves before it has healed"
            data = content[frame.offset : frame.offset + frame.length]
            await pipe.send(encode_header(Kind.CONTENT, 0, 0, len(data), frame.sequence, frame.offset, data), data)
            fetched += len(data)
    return content


# Handing over


async def hand_over(leader: Leader, secondary: RawSecondary) -> None:
    spec = replace(leader.spec(endpoint=secondary.endpoint), replication=Replication.HANDOVER)
    given = leader.give(spec)
    await leader.wait(lambda _: leader.has_applied(given), "handing over")


async def test_a_handover_flushes_both_sides_and_serves_nobody(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    await hand_over(leader, secondary)
    flush = await pipe.expect(Kind.FLUSH)
    status = leader.worker.status()
    assert status is not None
    assert (status.mode, status.members[0].serving) == (Mode.IN_SYNC, False)
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    await leader.mode(Mode.HANDED_OVER)
    assert not (leader.directory / "0.sock").exists()
    await leader.put(leader.spec(endpoint=secondary.endpoint))
    writing = asyncio.create_task(leader.write(0, DATA))
    frame = await pipe.expect(Kind.WRITE)
    await pipe.send(acknowledge(frame.sequence))
    await writing


async def test_a_handover_that_a_break_interrupts_is_ended_on_the_next_stream(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, name = await in_sync(leader, secondary)
    leader.arbiter.is_reachable = False
    await hand_over(leader, secondary)
    await pipe.expect(Kind.FLUSH)
    pipe.abort()
    pipe, _ = await secondary.admit(image(name))
    flush = await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    leader.arbiter.is_reachable = True
    flush = await pipe.expect(Kind.FLUSH)  # Confirmed anew: flushed anew.
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    await leader.mode(Mode.HANDED_OVER)


async def test_a_handover_waits_until_what_a_failed_write_left_is_repaired(
    leader: Leader, secondary: RawSecondary
) -> None:
    pipe, _ = await in_sync(leader, secondary)
    group = leader.group()
    group.machine.write_failed(0, 3 * BLOCK_BYTES, 512)
    await hand_over(leader, secondary)
    repair = await pipe.next()
    assert repair is not None
    assert (repair.kind, repair.offset) == (Kind.ZERO, 3 * BLOCK_BYTES), "the flush went before the repair"
    await pipe.send(acknowledge(repair.sequence))
    flush = await pipe.expect(Kind.FLUSH)
    await pipe.send(acknowledge(flush.sequence), flushed(flush.sequence))
    await leader.mode(Mode.HANDED_OVER)


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
async def test_nobody_follows_to_a_term_that_is_not_believed(leader: Leader, role: Role) -> None:
    """A database that was restored may be of a history that the sites have left."""
    given = leader.give(leader.spec(role))
    await leader.wait(lambda s: s.spec_version == given.version, "in force")
    other = Role.SECONDARY if role is Role.PRIMARY else Role.PRIMARY
    leader.give(replace(leader.spec(other, term=2), question="which"))
    status = await leader.wait(lambda s: s.failure is not None, "refused")
    assert status.failure is not None
    assert "stays at term 1 and does not follow to term 2" in status.failure.message
    assert status.knowledge is not None
    assert (status.knowledge.term, status.knowledge.is_primary) == (1, role is Role.PRIMARY)
    leader.give(leader.spec(other, term=2))
    status = await leader.wait(lambda s: s.failure is None and s.role is other, "believed")
    assert status.knowledge is not None
    assert (status.knowledge.term, status.knowledge.is_primary) == (2, other is Role.PRIMARY)


async def test_a_version_that_jumped_is_known_after_a_restart(leader: Leader) -> None:
    given = leader.give(leader.spec(Role.SECONDARY))
    await leader.wait(lambda s: s.spec_version == given.version, "in force")
    given = leader.give(replace(leader.spec(Role.SECONDARY), row_version=FORGOTTEN_VERSIONS_MAX + 7, question="which"))
    status = await leader.wait(lambda s: s.spec_version == given.version, "not believed yet")
    assert status.knowledge is not None and status.knowledge.row_version < FORGOTTEN_VERSIONS_MAX
    given = leader.give(replace(leader.spec(Role.SECONDARY), row_version=FORGOTTEN_VERSIONS_MAX + 8))
    await leader.wait(lambda s: s.spec_version == given.version, "believed")
    await leader.stop()
    leader.start()
    leader.give(leader.spec(Role.SECONDARY))
    status = await leader.wait(lambda s: s.knowledge is not None, "what is durable")
    assert status.knowledge is not None and status.knowledge.row_version == FORGOTTEN_VERSIONS_MAX + 8


async def test_who_has_adopted_no_term_yet_says_nothing_of_terms(leader: Leader) -> None:
    """Its state was lost, perhaps: a restored database must not take that for a word that nothing was forgotten."""
    await leader.stop()
    for path in (leader.directory / "state").iterdir():
        path.unlink()
    leader.start()
    leader.give(replace(leader.spec(), question="which"))
    status = leader.worker.status()
    assert status is not None and status.knowledge is None
    await leader.wait(lambda s: s.spec_version > 0, "in force")
    status = leader.worker.status()
    assert status is not None and status.knowledge is None
    given = leader.give(leader.spec())
    status = await leader.wait(lambda s: s.spec_version == given.version, "believed")
    assert status.knowledge is not None and status.knowledge.term == 1


async def test_an_answer_waits_for_the_call_that_is_on_its_way(leader: Leader, secondary: RawSecondary) -> None:
    """A grant of the database that was replaced may still arrive, and is what has to be told then."""
    pipe, _ = await in_sync(leader, secondary)
    is_asked, may_answer = threading.Event(), threading.Event()

    def hold(call: str) -> None:
        if call == "suspend_secondary":
            is_asked.set()
            may_answer.wait(WAIT_SECONDS)

    leader.arbiter.before_answer = hold
    pipe.abort()
    assert await asyncio.to_thread(is_asked.wait, WAIT_SECONDS)
    given = leader.give(replace(leader.spec(endpoint=secondary.endpoint), question="which"))
    status = await leader.wait(lambda s: s.spec_version == given.version, "asked")
    assert status.knowledge is not None
    assert (status.knowledge.row_in_sync, status.knowledge.answers) == (True, "")
    may_answer.set()
    status = await leader.wait(lambda s: s.knowledge is not None and s.knowledge.answers == "which", "answering")
    assert status.knowledge is not None
    assert (status.knowledge.row_in_sync, status.knowledge.row_version) == (False, leader.arbiter.row.version)


async def following(leader: Leader) -> SecondaryGroup:
    """Make it a secondary; return the group that it runs."""
    await leader.put(leader.spec(Role.SECONDARY))
    group = leader.worker._group
    assert isinstance(group, SecondaryGroup)
    return group


async def test_an_answer_waits_for_what_the_replaced_database_has_ordered(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A term that is made durable after the answer would be known to nobody."""
    group = await following(leader)
    is_closing, may_close, close = asyncio.Event(), asyncio.Event(), group.close

    async def close_slowly() -> None:
        is_closing.set()
        await may_close.wait()
        await close()

    monkeypatch.setattr(group, "close", close_slowly)
    leader.give(leader.spec(term=2))
    await is_closing.wait()
    asked = leader.give(replace(leader.spec(Role.SECONDARY), question="which"))
    status = leader.worker.status()
    assert status is not None and status.knowledge is not None
    assert (status.knowledge.spec_version, status.knowledge.term, status.knowledge.answers) == (asked.version, 1, "")
    may_close.set()
    status = await leader.wait(lambda s: s.knowledge is not None and s.knowledge.answers == "which", "answering")
    assert status.knowledge is not None
    assert (status.knowledge.term, status.knowledge.is_primary) == (2, True)


async def test_a_row_that_is_not_believed_replaces_nobody(leader: Leader, secondary: RawSecondary) -> None:
    pipe, _ = await in_sync(leader, secondary)
    known = await leader.wait(lambda s: s.knowledge is not None and s.knowledge.row_in_sync, "known to be in sync")
    leader.arbiter.row = Row(2, "az2", Secondary.STALE, 1.0, 90, ["az1", "az2"], "which")
    calls = len(leader.arbiter.calls)
    pipe.abort()
    status = await leader.wait(
        lambda s: s.failure is not None and "restored from a backup" in s.failure.message, "told"
    )
    assert len(leader.arbiter.calls) > calls
    assert status.mode is Mode.HOLDING
    assert known.knowledge is not None and status.knowledge is not None
    assert (status.knowledge.term, status.knowledge.is_primary) == (1, True)


async def test_a_stop_in_the_middle_of_a_role_change_forgets_no_failed_flush(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await following(leader)
    is_flushing, may_fail = threading.Event(), threading.Event()

    def flush(store: DescriptorStore) -> None:
        is_flushing.set()
        may_fail.wait(WAIT_SECONDS)
        raise StorageFault("flush", store.path, OSError(5, "Input/output error"))

    monkeypatch.setattr(DescriptorStore, "flush", flush)

    async def settle() -> None:
        with contextlib.suppress(StorageFault):
            await group.flush_all()

    group._settling = asyncio.create_task(settle())
    assert await asyncio.to_thread(is_flushing.wait, WAIT_SECONDS)
    leader.give(leader.spec())
    await leader.wait(lambda s: leader.worker._group is None, "on its way to another role")
    stopping = asyncio.create_task(leader.stop())
    for _ in range(100):
        await asyncio.to_thread(threading.active_count)
    may_fail.set()
    await stopping
    assert StateDirectory(leader.directory / "state").load().doubt is Doubt.FLUSH_FAILED
