"""What a replica's state is worth when its role begins: the dirty maps and lineages that a primary starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinsite.core.group.primary import Primary
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.messages import MemberSpec
from twinsite.worker.state import ReplicaState, StateDirectory


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What a primary knows at its start of how the other side differs."""

    maps: dict[int, DirtyMap]  # By member index.
    generations: frozenset[str]
    peer_consistent: bool
    is_unclean: bool  # The last primary here ended without saving its maps.


def starting_point(
    members: Sequence[MemberSpec], directory: StateDirectory, state: ReplicaState, boot_id: str
) -> StartingPoint:
    """Judge what a primary may start from; `boot_id` names the machine's current boot.

    - The last primary here saved its maps: they are good.
    - This side followed as a secondary and its image is consistent: it equals the other side's image of the same
      lineage, except for what that one did alone, which it will tell by not claiming the lineage. That is so only
      while nothing that was applied can have been lost: no failed flush, no restart of the machine before one.
    - Otherwise nothing is known, and everything may differ.
    """
    if state.is_clean:
        maps = {m.index: directory.load_dirty_map(m.volume_id, m.size_bytes) or _all_dirty(m) for m in members}
        return StartingPoint(maps, frozenset(state.generations), state.peer_consistent, is_unclean=False)
    is_suspect = state.is_suspect or state.unstable_boot_id not in (None, boot_id)
    if state.generation and state.is_consistent and not is_suspect:
        maps = {m.index: DirtyMap(m.size_bytes) for m in members}
        return StartingPoint(maps, frozenset({state.generation}), peer_consistent=False, is_unclean=False)
    was_secondary = bool(state.generation)
    return StartingPoint(
        {m.index: _all_dirty(m) for m in members}, frozenset(), peer_consistent=False, is_unclean=not was_secondary
    )


def remember_primary(state: ReplicaState, start: StartingPoint, boot_id: str) -> None:
    """Note that a primary runs: from here on the saved maps are only as good as the memory that they live in.

    If the machine restarted under a primary, that is remembered until the arbiter lets it go on: starting once more
    brings back no write.
    """
    if start.is_unclean and state.primary_boot_id not in (None, boot_id):
        state.may_lack_writes = True
    state.is_clean = state.peer_consistent = False
    state.generation, state.is_consistent, state.is_suspect = "", False, False
    state.primary_boot_id = boot_id


def remember_secondary(state: ReplicaState) -> None:
    """Note that a secondary runs: the maps of an earlier primary here say nothing any more."""
    state.is_clean = state.peer_consistent = False
    state.generations = []
    state.primary_boot_id = None
    state.may_lack_writes = False


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
    is_equal = machine.peer_consistent and not machine.is_dirty
    if is_equal and len(state.generations) == 1:
        state.generation, state.is_consistent = state.generations[0], True


def _all_dirty(member: MemberSpec) -> DirtyMap:
    return DirtyMap(member.size_bytes, all_dirty=True)
