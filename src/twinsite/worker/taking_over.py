"""What a replica's state is worth when its role begins: the dirty maps and lineages that a primary starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from twinsite.core.group.primary import Primary
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.messages import MemberSpec
from twinsite.stores.base import Store
from twinsite.worker.state import ReplicaState, StateDirectory
from twinsite.worker.undo_log import UndoLog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What a primary knows at its start of how the other side differs."""

    maps: dict[int, DirtyMap]  # By member index.
    generations: frozenset[str]
    peer_consistent: bool
    is_unclean: bool  # The last primary here ended without saving its maps.


@dataclass(frozen=True, slots=True)
class ImageChanges:
    """How the disks of a replica differ from those that its state speaks of, by volume id."""

    replaced: frozenset[str]  # Another file lies there: somebody has put a copy or a backup in its place.
    joined: frozenset[str]  # The state has never heard of it.

    @property
    def differ(self) -> bool:
        """Say whether the state does not speak of exactly these disks."""
        return bool(self.replaced or self.joined)


def compare_images(state: ReplicaState, members: Sequence[MemberSpec], stores: Mapping[int, Store]) -> ImageChanges:
    """Compare the disks with those that `state` remembers, and let it remember these."""
    known = state.image_names()
    replaced = state.replace_images({member.volume_id: stores[member.index].identity for member in members})
    joined = {member.volume_id for member in members} - known if known else set()
    return ImageChanges(frozenset(replaced), frozenset(joined))


def starting_point(
    members: Sequence[MemberSpec],
    directory: StateDirectory,
    state: ReplicaState,
    boot_id: str,
    images: ImageChanges,
) -> StartingPoint:
    """Judge what a primary may start from; `boot_id` names the machine's current boot.

    - The last primary here saved its maps: they are good.
    - This side followed as a secondary and its image is consistent: it equals the other side's image of the same
      lineage, except for what that one did alone, which it will tell by not claiming the lineage. That is so only
      while nothing that was applied can have been lost: no failed flush, no restart of the machine before one.
    - Otherwise nothing is known, and everything may differ.
    """
    if images.replaced:
        log.warning("primary.disks_replaced", volumes=sorted(images.replaced), consequence="they are copied whole")
    if state.is_clean:
        saved = {m.index: _load_map(directory, m, images) for m in members}
        maps = {m.index: saved[m.index] or _all_dirty(m) for m in members}
        # A member without a map: the secondary has nothing of it yet.
        peer_consistent = state.peer_consistent and None not in saved.values()
        return StartingPoint(maps, frozenset(state.generations), peer_consistent, is_unclean=False)
    is_suspect = state.is_suspect or state.unstable_boot_id not in (None, boot_id)
    if state.generation and state.is_consistent and not is_suspect and not images.differ:
        maps = {m.index: DirtyMap(m.size_bytes) for m in members}
        return StartingPoint(maps, frozenset({state.generation}), peer_consistent=False, is_unclean=False)
    was_secondary = bool(state.generation)
    return StartingPoint(
        {m.index: _all_dirty(m) for m in members}, frozenset(), peer_consistent=False, is_unclean=not was_secondary
    )


def return_to_common_point(
    directory: StateDirectory, state: ReplicaState, members: Sequence[MemberSpec], stores: Mapping[int, Store]
) -> None:
    """Undo a resync that never ended, if this image was consistent before it. Blocks; safe to repeat after a crash.

    For a secondary that becomes primary: what it then serves is the last point that all disks of the group had in
    common. Raises `StorageFault`.
    """
    undo = UndoLog.resume(directory.files, directory.undo_path)
    if undo is None:
        return
    if state.is_consistent or not state.generation:
        # The resync that it stood for has ended, and only the removal was missed. What a primary has written since
        # is in no log, so a log that is left over must not outlive this start.
        undo.discard()
        return
    if compare_images(state, members, stores).differ or set(undo.header.sizes_bytes) != {str(i) for i in stores}:
        log.warning("undo.other_disks", point_at=undo.header.point_at)
        undo.discard()
        return
    log.warning("undo.rolling_back", point_at=undo.header.point_at, bytes=undo.size_bytes())
    undo.roll_back(stores)
    state.generation = undo.header.generation
    state.is_consistent, state.is_suspect, state.unstable_boot_id = True, False, None
    directory.save(state)
    undo.discard()


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


def _load_map(directory: StateDirectory, member: MemberSpec, images: ImageChanges) -> DirtyMap | None:
    if member.volume_id in images.replaced:
        return None
    return directory.load_dirty_map(member.index, member.volume_id, member.size_bytes)


def _all_dirty(member: MemberSpec) -> DirtyMap:
    return DirtyMap(member.size_bytes, all_dirty=True)
