"""What a primary has on disk before it acts, and that it does not act while the disk refuses that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.crash_files import CrashFiles
from tests.support.stream import WAIT_SECONDS
from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.group.states import Phase
from twinsite.core.limits import EXTENT_BYTES
from twinsite.core.stream.frames import Frame, Kind
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.core.tracking.intents import IntentMap
from twinsite.errors import StorageFault
from twinsite.messages import MemberSpec
from twinsite.worker.intent_log import IntentLog, load_intents
from twinsite.worker.standing import Joined, Standing
from twinsite.worker.state import ReplicaState, StateDirectory

KNOWN = "known lineage"
SIZE = 4 * EXTENT_BYTES
MEMBER = MemberSpec(0, "volume", SIZE)
SAME = Welcome(1, KNOWN, consistent=True, doubt=Doubt.NONE)


class Bench:
    """The standing of a primary of one volume, which holds."""

    def __init__(
        self, executor: ThreadPoolExecutor, *, peer_has_all: bool, lacks_writes: bool = False, suspected: bool = False
    ) -> None:
        self.files = CrashFiles()
        self.directory = StateDirectory("/state", self.files)
        self.state = ReplicaState(
            generations=[KNOWN], peer_has_all=peer_has_all, may_lack_writes=lacks_writes, primary_boot_id="this boot"
        )
        self.directory.save(self.state)
        member = Member(0, "volume", DirtyMap(SIZE))
        if suspected:
            member.suspect.mark_blocks(3, 1)
        self.machine = Primary(
            [member],
            generations=frozenset({KNOWN}),
            sequence=0,
            peer_consistent=True,
            peer_has_all=peer_has_all,
            lacks_writes=lacks_writes,
        )
        self.intents = IntentLog(self.files, self.directory.intent_path, {0: IntentMap(SIZE)}, {0: "volume"})
        self.standing = Standing(self.machine, self.intents, self.state, self.directory, executor)

    def saved(self) -> ReplicaState:
        """What a crash now would leave."""
        return StateDirectory("/state", CrashFiles(self.files.durable)).load()

    def phase(self) -> Phase:
        return self.machine.phase

    async def join(self, welcome: Welcome = SAME) -> Joined:
        return await self.standing.join(welcome, lambda: True)

    async def copied(self) -> None:
        """Go on alone, have the secondary join, and end its resync."""
        await self.standing.go_alone(2)
        await self.join()
        self.machine.received([answer(Kind.ACK, self.machine.sequence), answer(Kind.FLUSHED, self.machine.sequence)])
        assert self.phase() is Phase.MIRRORED


def answer(kind: Kind, sequence: int) -> Frame:
    return Frame(kind, 0, 0, 0, sequence, 0, None)


@pytest.fixture(name="make")
async def fixture_make() -> AsyncIterator[Callable[..., Bench]]:
    executor = ThreadPoolExecutor(2)
    made: list[Bench] = []

    def make(**arguments: bool) -> Bench:
        made.append(Bench(executor, **arguments))
        return made[-1]

    yield make
    for bench in made:
        bench.files.may_sync.set()
        await bench.intents.close()
    executor.shutdown()


async def while_held(bench: Bench, step: Coroutine[None, None, object], check: Callable[[], None]) -> None:
    """Let `step` come to where it makes something durable; `check` what holds until that is done."""
    bench.files.is_syncing.clear()
    bench.files.may_sync.clear()
    task = asyncio.ensure_future(step)
    assert await asyncio.to_thread(bench.files.is_syncing.wait, WAIT_SECONDS), "it made nothing durable"
    check()
    assert not task.done()
    bench.files.may_sync.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await task


# Going on alone


async def test_that_the_secondary_lacks_something_is_on_disk_before_the_first_acknowledgement_alone(
    make: Callable[..., Bench],
) -> None:
    bench = make(peer_has_all=True)
    bench.machine.write_applied(0, 0, b"w", "host")

    def check() -> None:
        assert (bench.phase(), bench.machine.completed) == (Phase.HOLDING, [])
        assert bench.saved().peer_has_all

    await while_held(bench, bench.standing.go_alone(2), check)
    assert (bench.phase(), bench.machine.completed) == (Phase.ALONE, ["host"])
    assert not bench.saved().peer_has_all


@pytest.mark.parametrize("lacks_writes", [False, True])
async def test_a_disk_that_refuses_keeps_the_primary_holding_until_it_takes_the_record(
    make: Callable[..., Bench], lacks_writes: bool
) -> None:
    bench = make(peer_has_all=True, lacks_writes=lacks_writes)
    bench.machine.write_applied(0, 0, b"w", "host")
    bench.files.failing = {"replace"}
    for _ in range(3):
        with pytest.raises(StorageFault):
            await bench.standing.go_alone(2)
        assert (bench.phase(), bench.machine.completed) == (Phase.HOLDING, [])
        assert bench.saved().peer_has_all
    bench.files.failing = set()
    await bench.standing.go_alone(2)
    saved = bench.saved()
    assert (saved.peer_has_all, saved.may_lack_writes) == (False, False)
    assert bench.machine.completed == ["host"]


# The report


async def test_that_the_secondary_has_all_is_on_disk_before_the_report_is_sent(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True)
    await bench.copied()
    assert not bench.saved().peer_has_all

    def check() -> None:
        assert bench.machine.may_be_recorded, "from here on only a grant lets it acknowledge alone"
        assert not bench.saved().peer_has_all

    await while_held(bench, bench.standing.promise_all(), check)
    saved = bench.saved()
    assert (saved.peer_has_all, saved.generations) == (True, sorted(bench.machine.generations))
    assert bench.machine.peer_has_all


async def test_no_report_is_sent_while_the_disk_refuses_the_record_before_it(
    make: Callable[..., Bench],
) -> None:
    bench = make(peer_has_all=True)
    await bench.copied()
    bench.files.failing = {"replace"}
    for _ in range(3):
        with pytest.raises(StorageFault):
            await bench.standing.promise_all()
        assert not bench.machine.peer_has_all
        assert bench.machine.wants_report
    bench.files.failing = set()
    await bench.standing.promise_all()
    assert bench.saved().peer_has_all, "the report would be sent now"


async def test_a_secondary_that_is_copied_to_leaves_nothing_promised(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=False)
    await bench.standing.go_alone(2)
    await bench.standing.promise_all()
    assert not bench.saved().peer_has_all


# Joining


async def test_a_stream_is_resumed_when_it_is_on_disk_that_the_secondary_has_all(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=False)

    def check() -> None:
        assert bench.phase() is Phase.HOLDING
        assert not bench.machine.outbox

    await while_held(bench, bench.join(), check)
    assert bench.phase() is Phase.MIRRORED
    assert bench.saved().peer_has_all


async def test_a_stream_is_not_resumed_while_the_disk_refuses(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=False)
    bench.files.failing = {"replace"}
    for _ in range(2):
        with pytest.raises(StorageFault):
            await bench.join()
        assert bench.phase() is Phase.HOLDING
    bench.files.failing = set()
    assert await bench.join() is Joined.RESUMED
    assert bench.saved().peer_has_all


async def test_a_resync_begins_when_its_name_and_its_extents_are_on_disk(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=False)
    bench.intents.maps[0].set(2, 1)
    await bench.standing.go_alone(2)
    led = Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=[KNOWN], runs=[[0, 1, 1]])

    def check() -> None:
        assert bench.phase() is Phase.ALONE

    await while_held(bench, bench.join(led), check)
    assert bench.phase() is Phase.COPYING
    (name,) = bench.machine.generations - {KNOWN}
    assert bench.saved().generations == sorted({KNOWN, name})
    found = load_intents(CrashFiles(bench.files.durable), bench.directory.intent_path, [MEMBER])
    assert (1, 1) in found[0].runs() or (1, 2) in found[0].runs()


@pytest.mark.parametrize(
    "failing", [{"write", "replace"}, {"sync", "replace"}, {"replace"}], ids=lambda s: "+".join(sorted(s))
)
async def test_no_resync_begins_while_the_disk_refuses(make: Callable[..., Bench], failing: set[str]) -> None:
    bench = make(peer_has_all=False)
    await bench.standing.go_alone(2)
    led = Welcome(1, "", consistent=False, doubt=Doubt.NONE, led=[KNOWN], runs=[[0, 1, 1]])
    bench.files.failing = failing
    for _ in range(2):
        with pytest.raises(StorageFault):
            await bench.join(led)
        assert bench.phase() is Phase.ALONE
        assert bench.machine.generations == {KNOWN}
    bench.files.failing = set()
    assert await bench.join(led) is Joined.RESYNC
    found = load_intents(CrashFiles(bench.files.durable), bench.directory.intent_path, [MEMBER])
    assert found[0].runs() == [(1, 1)]
    assert bench.saved().generations == sorted(bench.machine.generations)


async def test_a_secondary_that_is_gone_meanwhile_is_not_joined(make: Callable[..., Bench]) -> None:
    for is_alone in (False, True):
        bench = make(peer_has_all=False)
        if is_alone:
            await bench.standing.go_alone(2)
        phase = bench.phase()
        answers = iter([True, False])
        assert await bench.standing.join(SAME, lambda answers=answers: next(answers)) is Joined.GONE  # type: ignore[misc]
        assert bench.phase() is phase


async def test_a_grant_that_comes_while_a_stream_is_being_resumed_waits_for_it(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=False)
    granting: list[asyncio.Task[None]] = []

    def check() -> None:
        granting.append(asyncio.create_task(bench.standing.go_alone(2)))

    await while_held(bench, bench.join(), check)
    async with asyncio.timeout(WAIT_SECONDS):
        await granting[0]
    assert (bench.phase(), bench.machine.may_be_recorded) == (Phase.MIRRORED, False)
    assert not bench.saved().peer_has_all, "the grant is recorded after the stream was"
    assert bench.machine.wants_report


@pytest.mark.parametrize(
    "welcome, peer_has_all, outcome",
    [
        (Welcome(1, "another", consistent=True, doubt=Doubt.NONE), True, Joined.MUST_WAIT),
        (Welcome(1, KNOWN, consistent=True, doubt=Doubt.RESTARTED), True, Joined.MUST_ASK),
        (Welcome(1, "another", consistent=True, doubt=Doubt.NONE), False, Joined.MUST_ASK),
    ],
)
async def test_what_only_the_arbiter_can_allow_leaves_everything_as_it_was(
    make: Callable[..., Bench], welcome: Welcome, peer_has_all: bool, outcome: Joined
) -> None:
    bench = make(peer_has_all=peer_has_all, lacks_writes=True)
    before = bench.saved()
    assert await bench.join(welcome) is outcome
    assert (bench.phase(), bench.saved()) == (Phase.HOLDING, before)
    assert bench.machine.must_wait is (outcome is Joined.MUST_WAIT)
    assert not bench.standing.is_peer_in_doubt


async def test_it_is_known_when_neither_side_is_sure_of_its_disks(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True, lacks_writes=True)
    assert await bench.join(Welcome(1, KNOWN, consistent=True, doubt=Doubt.FLUSH_FAILED)) is Joined.MUST_WAIT
    assert bench.standing.is_peer_in_doubt
    assert await bench.join() is Joined.HEALING
    assert not bench.standing.is_peer_in_doubt


# Healing


async def test_what_was_missing_is_missing_no_more_only_when_that_is_on_disk(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True, lacks_writes=True)
    assert await bench.join() is Joined.HEALING
    bench.files.failing = {"replace"}
    with pytest.raises(StorageFault):
        await bench.standing.healed()
    assert (bench.phase(), bench.machine.lacks_writes, bench.saved().may_lack_writes) == (Phase.HEALING, True, True)
    bench.files.failing = set()
    await while_held(bench, bench.standing.healed(), lambda: None)
    saved = bench.saved()
    assert (saved.may_lack_writes, saved.peer_has_all, saved.doubt) == (False, True, Doubt.NONE)
    assert bench.phase() is Phase.MIRRORED


async def test_healing_that_a_break_ends_while_it_is_recorded_does_not_mirror(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True, lacks_writes=True)
    await bench.join()
    await while_held(bench, bench.standing.healed(), bench.machine.broken)
    assert bench.phase() is Phase.HOLDING


async def test_a_grant_that_comes_while_what_was_healed_is_being_flushed_is_not_used(
    make: Callable[..., Bench],
) -> None:
    bench = make(peer_has_all=True, lacks_writes=True)
    assert await bench.join() is Joined.HEALING
    bench.machine.is_flushing_healed = True
    await bench.standing.go_alone(2)
    assert (bench.phase(), bench.saved().peer_has_all) == (Phase.HEALING, True)
    bench.machine.is_flushing_healed = False
    await bench.standing.go_alone(3)
    assert (bench.phase(), bench.saved().peer_has_all, bench.saved().row_version) == (Phase.ALONE, False, 3)


async def test_an_accepted_loss_counts_when_it_is_on_disk(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True, lacks_writes=True)
    bench.files.failing = {"replace"}
    with pytest.raises(StorageFault):
        await bench.standing.accept_loss(4)
    assert bench.machine.must_wait
    bench.files.failing = set()
    await bench.standing.accept_loss(4)
    saved = bench.saved()
    assert (saved.loss_acceptances, saved.may_lack_writes, bench.machine.must_wait) == (4, False, False)


async def test_a_failed_flush_is_remembered(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True)
    await bench.standing.distrust()
    assert bench.saved().doubt is Doubt.FLUSH_FAILED


async def test_a_failed_flush_that_cannot_be_recorded_is_recorded_with_what_is_next(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True)
    bench.files.failing = {"replace"}
    with pytest.raises(StorageFault):
        await bench.standing.distrust()
    bench.files.failing = set()
    await bench.standing.accept_loss(1)
    assert bench.saved().doubt is Doubt.FLUSH_FAILED


async def test_a_grant_that_comes_after_a_flush_has_failed_changes_nothing(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True)
    assert bench.machine.disk_failed()
    assert bench.machine.must_wait
    await bench.standing.go_alone(2)
    assert (bench.phase(), bench.saved().peer_has_all) == (Phase.HOLDING, True)


async def test_a_grant_that_is_being_recorded_when_a_flush_fails_is_taken_back(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(peer_has_all=True)
    save = StateDirectory.save

    def fail_a_flush_and_save(directory: StateDirectory, state: ReplicaState) -> None:
        assert bench.machine.disk_failed()
        save(directory, state)

    monkeypatch.setattr(StateDirectory, "save", fail_a_flush_and_save)
    await bench.standing.go_alone(2)
    assert (bench.phase(), bench.machine.peer_has_all, bench.saved().peer_has_all) == (Phase.HOLDING, True, True)


async def test_without_a_secondary_that_has_everything_a_failed_flush_ends_nothing(make: Callable[..., Bench]) -> None:
    bench = make(peer_has_all=True)
    await bench.standing.go_alone(2)
    assert not bench.machine.disk_failed()
    assert not bench.machine.must_wait
