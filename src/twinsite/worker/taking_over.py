"""What becomes of a replica's state when its role changes, and which disks it speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from twinsite.core.stream.hello import Doubt
from twinsite.errors import StorageFault
from twinsite.messages import MemberSpec, Role
from twinsite.stores.base import Store
from twinsite.worker.state import ReplicaState, StateDirectory, doubt_of, read_boot_id
from twinsite.worker.undo_log import UndoLog

log = structlog.get_logger(__name__)

HALF_COPIED = "a copy to them was not completed, so they are not at one common point in time"
"""Why a secondary in the middle of a copy that nothing can undo does not become primary."""


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
    joined = state.joined((member.volume_id, member.index) for member in members)
    replaced = state.replace_images({(m.volume_id, m.index): stores[m.index].identity for m in members})
    return ImageChanges(frozenset(replaced), frozenset(joined))


def flush_what_was_left(
    directory: StateDirectory, state: ReplicaState, stores: Mapping[int, Store], role: Role
) -> None:
    """Make durable what a process had written here that ended without a flush, before `role` begins. Blocks.

    What a secondary had applied no intent log names, and the undo log of a resync takes it for part of its point; the
    same is so of what a primary had written that is a secondary from now on. So whoever begins such a role counts on
    it, and a restart of the machine would take it away unnoticed. A flush that fails is remembered as a doubt. Raises
    `StorageFault` when that cannot be.
    """
    boot_id = read_boot_id()
    has_led = role is Role.SECONDARY and state.primary_boot_id == boot_id and not state.is_clean
    if (state.unstable_boot_id is None and not has_led) or doubt_of(state, boot_id) is not Doubt.NONE:
        return
    try:
        for store in stores.values():
            store.flush()
        state.unstable_boot_id = None
    except StorageFault as fault:
        log.error("worker.left_unflushed", error=str(fault))
        state.doubt = Doubt.FLUSH_FAILED
    directory.save(state)


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
        undo.finish()
        return
    if compare_images(state, members, stores).differ or set(undo.header.sizes_bytes) != {str(i) for i in stores}:
        log.warning("undo.other_disks", point_at=undo.header.point_at)
        undo.finish()
        return
    log.warning("undo.rolling_back", point_at=undo.header.point_at, bytes=undo.size_bytes())
    undo.roll_back(stores)
    state.generation = undo.header.generation
    state.is_consistent, state.doubt, state.unstable_boot_id, state.led = True, Doubt.NONE, None, []
    directory.save(state)
    undo.discard()


def refuse_half_copy(state: ReplicaState, members: Sequence[MemberSpec]) -> None:
    """Raise `StorageFault` for a secondary that is to become primary in the middle of a copy that nothing can undo.

    Its disks are of no moment: no file system or database should ever see them.
    """
    if state.primary_boot_id is None and state.generation and not state.is_consistent:
        names = ", ".join(member.volume_id for member in members)
        raise StorageFault(
            "serve",
            f"volumes {names}",
            f"{HALF_COPIED}; fail over to the other site and synchronize again",
        )


def remember_secondary(state: ReplicaState, images: ImageChanges, boot_id: str) -> None:
    """Note that a secondary runs. What an earlier primary here knew is only good to tell the next one what may differ.

    A primary that stopped cleanly, and equal, has left a consistent image of one lineage. Any other image is that of
    its lineages outside of the intent log.
    """
    if state.primary_boot_id is not None:
        state.led = [] if state.is_consistent else list(state.generations)
        has_restarted = not state.is_clean and state.primary_boot_id != boot_id
        if (has_restarted or state.may_lack_writes) and state.doubt is Doubt.NONE:
            state.doubt = Doubt.RESTARTED
    if images.replaced:
        log.warning("secondary.disks_replaced", volumes=sorted(images.replaced), consequence="all are copied whole")
        state.generation = ""
    if images.differ:
        # What joined while no worker ran belongs to no lineage yet.
        state.is_consistent, state.led = False, []
    state.is_clean = state.peer_consistent = state.peer_has_all = False
    state.generations = []
    state.primary_boot_id = None
    state.may_lack_writes = False
