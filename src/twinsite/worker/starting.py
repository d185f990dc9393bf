"""What a primary starts from, and what it remembers: the tables of `core.group.recovery` and a state directory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import START, Basis, Past
from twinsite.core.limits import WELCOME_RUNS_MAX
from twinsite.core.stream.hello import Doubt
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.core.tracking.intents import EXTENT_BLOCKS, IntentMap
from twinsite.messages import MemberSpec
from twinsite.worker.intent_log import load_intents
from twinsite.worker.state import MapKind, ReplicaState, StateDirectory, doubt_of
from twinsite.worker.taking_over import ImageChanges

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What a primary knows at its start of how the other side differs."""

    members: list[Member]
    intents: dict[int, IntentMap]  # By member index; they cover what the members say.
    generations: frozenset[str]
    peer_consistent: bool
    peer_has_all: bool
    lacks_writes: bool


def judge_past(state: ReplicaState, boot_id: str) -> Past:
    """Return how the last role here ended; `boot_id` names the machine's current boot."""
    if state.is_clean:
        return Past.CLEAN
    if state.primary_boot_id is not None:
        is_whole = state.primary_boot_id == boot_id and state.doubt is Doubt.NONE
        return Past.CRASHED if is_whole else Past.REBOOTED
    if state.led:
        return Past.LED
    if state.generation and state.is_consistent:
        return Past.FOLLOWED if doubt_of(state, boot_id) is Doubt.NONE else Past.DOUBTED
    return Past.UNKNOWN


def recorded_runs(directory: StateDirectory, members: Sequence[MemberSpec]) -> list[list[int]]:
    """Return the extents that the intent log names as (member index, first, count), few enough for a welcome.

    Too many are joined, the smallest gaps first. Blocks; raises `StorageFault`.
    """
    recorded = load_intents(directory.files, directory.intent_path, members)
    runs = []
    for spec in members:
        extents = recorded.get(spec.index) or IntentMap(spec.size_bytes, all_set=True)
        runs += [[spec.index, first, count] for first, count in extents.runs()]
    if len(runs) <= WELCOME_RUNS_MAX:
        return runs
    gaps = sorted(
        (after[1] - before[1] - before[2], number)
        for number, (before, after) in enumerate(itertools.pairwise(runs))
        if before[0] == after[0]
    )
    joined = {number for _, number in gaps[: len(runs) - WELCOME_RUNS_MAX]}
    result: list[list[int]] = []
    for number, run in enumerate(runs):
        if number - 1 in joined:
            result[-1][2] = run[1] + run[2] - result[-1][1]
        else:
            result.append(run)
    return result


def starting_point(
    members: Sequence[MemberSpec],
    directory: StateDirectory,
    state: ReplicaState,
    boot_id: str,
    images: ImageChanges,
) -> StartingPoint:
    """Judge what a primary may start from. Blocks; raises `StorageFault`.

    A disk that the state does not speak of may hold anything: all of it is suspected, and whoever put it there wants
    its content, so nothing is taken from the other side.
    """
    past = judge_past(state, boot_id)
    start = START[past]
    if images.replaced:
        log.warning("primary.disks_replaced", volumes=sorted(images.replaced), consequence="they are compared whole")
    log.info("primary.starting_point", past=past.name.lower(), basis=start.basis.value)
    recorded: dict[int, IntentMap] = {}
    if past not in (Past.FOLLOWED, Past.DOUBTED):
        recorded = load_intents(directory.files, directory.intent_path, members)
    result: list[Member] = []
    # What has joined the secondary cannot have at the point of the others.
    peer_consistent = state.peer_consistent and past is Past.CLEAN and not images.joined
    for spec in members:
        is_foreign = spec.volume_id in images.replaced | images.joined
        basis = Basis.ALL if is_foreign else start.basis
        member = _member(spec, basis, directory, recorded.get(spec.index))
        if member is None:
            # Nothing was saved of it: the secondary has nothing of it yet.
            peer_consistent = False
            member = _member(spec, Basis.ALL, directory, None)
            assert member is not None
        result.append(member)
    intents = {}
    for spec, member in zip(members, result, strict=True):
        extents = intents[spec.index] = recorded.get(spec.index) or IntentMap(spec.size_bytes)
        _cover(extents, member)
    peer_has_all = state.peer_has_all if start.peer_has_all is None else start.peer_has_all
    lacks_writes = state.may_lack_writes if start.lacks_writes is None else start.lacks_writes
    if images.differ:
        peer_has_all = False
    generations = {state.generation} if past in (Past.FOLLOWED, Past.DOUBTED) else set(state.generations)
    if past is Past.LED:
        generations = set(state.led)
    return StartingPoint(
        members=result,
        intents=intents,
        generations=frozenset(generations) if past is not Past.UNKNOWN else frozenset(),
        peer_consistent=peer_consistent,
        peer_has_all=peer_has_all,
        # What is missing here counts only if it is somewhere else.
        lacks_writes=lacks_writes and peer_has_all,
    )


def remember_primary(state: ReplicaState, start: StartingPoint, boot_id: str) -> None:
    """Note that a primary runs: from here on the saved maps are only as good as the memory that they live in.

    That it may lack writes is remembered until it has healed or somebody accepts it: starting once more brings none
    back.
    """
    state.is_clean = state.peer_consistent = False
    state.generations = sorted(start.generations)
    state.peer_has_all, state.may_lack_writes = start.peer_has_all, start.lacks_writes
    state.generation, state.is_consistent, state.led = "", False, []
    state.unstable_boot_id = None
    if state.doubt is Doubt.RESTARTED:
        state.doubt = Doubt.NONE
    state.primary_boot_id = boot_id


def remember_clean_stop(state: ReplicaState, machine: Primary) -> None:
    """Note what a primary knew when it stopped, its stores flushed and its maps saved.

    If nothing differs, its image is that of the lineage which it gave the other side: should this side be a secondary
    next, it can be followed up without a full copy.
    """
    state.sequence = machine.sequence
    state.generations = sorted(machine.generations)
    state.peer_consistent = machine.peer_consistent
    state.is_clean = True
    state.unstable_boot_id = None
    is_equal = machine.peer_consistent and not machine.is_dirty and not machine.lacks_writes
    if is_equal and len(state.generations) == 1:
        state.generation, state.is_consistent = state.generations[0], True


def _member(spec: MemberSpec, basis: Basis, directory: StateDirectory, recorded: IntentMap | None) -> Member | None:
    """Return the member with what may differ; None when nothing was saved that says so."""
    dirty, suspect = DirtyMap(spec.size_bytes), DirtyMap(spec.size_bytes)
    if basis is Basis.SAVED:
        saved = directory.load_map(MapKind.DIRTY, spec.index, spec.volume_id, spec.size_bytes)
        if saved is None:
            return None
        dirty = saved
        suspect = directory.load_map(MapKind.SUSPECT, spec.index, spec.volume_id, spec.size_bytes) or suspect
    elif basis is Basis.RECORDED:
        if recorded is None:
            return None
        for first, count in recorded.runs():
            suspect.mark_blocks(first * EXTENT_BLOCKS, count * EXTENT_BLOCKS)
    elif basis is Basis.ALL:
        suspect.mark_all()
    return Member(spec.index, spec.volume_id, dirty, suspect)


def _cover(extents: IntentMap, member: Member) -> None:
    for blocks in (member.dirty, member.suspect):
        for first, count in blocks.runs():
            first_extent = first // EXTENT_BLOCKS
            extents.set(first_extent, (first + count - 1) // EXTENT_BLOCKS + 1 - first_extent)
