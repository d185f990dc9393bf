"""Extending the group's disks, as `control.lifecycle.extending`: the table and the facts are the product's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from twinsite.control.lifecycle.extending import ExtendStep, Outcome, extend_facts, next_step, refusals
from twinsite.control.lifecycle.states import GroupCall, ReplicationStatus
from twinsite.messages import DesiredVolume, ObservedVolume
from twinsite_sim.volumes import UNIT_BYTES, Extension, SimPair, SimVolume

if TYPE_CHECKING:
    from twinsite_sim.controller import Controller

ROOM_SECONDS = 15.0
"""The default of the controller's settings."""


class Refused(Exception):
    """A call of an operator changes nothing, and why."""


def is_extending(pairs: Sequence[SimPair]) -> bool:
    """Say whether disks of these pairs are being extended."""
    return any(pair.production_volume.target_gib is not None for pair in pairs)


def refuse_while_extending(pairs: Sequence[SimPair]) -> None:
    """Raise `Refused` while disks are being extended."""
    if is_extending(pairs):
        raise Refused("the disks are being extended")


def extend(controller: Controller, sizes_gib: Mapping[int, int]) -> None:
    """Give the pairs of these member indexes the sizes, all or none; does not wait for it. Raises `Refused`."""
    group = controller.group
    if controller.is_down():
        raise Refused("the controller is down")
    members = {pair.member_index: pair for pair in group.pairs}
    targets = {}
    for index, size_gib in sizes_gib.items():
        if index not in members:
            raise Refused(f"the pair {index} is not in the group")
        present_gib = members[index].production_volume.size_gib
        if size_gib < present_gib:
            raise Refused("disks only grow")
        if size_gib > present_gib:
            targets[index] = size_gib
    if not targets:
        return
    if group.journal is not None and group.journal.outcome is Outcome.RUNNING:
        if {index: group.journal.targets.get(index) for index in targets} != targets:
            raise Refused("another extension is under way")
        return
    controller.admit(GroupCall.EXTEND)
    if controller.health().replication_status is ReplicationStatus.ERROR:
        raise Refused("replication is in error")
    controller.require_connected("az1", "az2")
    group.journal = Extension(targets, group.spec_version, controller.machine.loop.time() + ROOM_SECONDS)
    for index, size_gib in targets.items():
        for volume in members[index].volumes:
            volume.target_gib = size_gib
    controller.note(f"extends, in units of {UNIT_BYTES} bytes: {targets}")


def settle_extend(controller: Controller, observed: Sequence[ObservedVolume] = ()) -> None:
    """Take the next step of an extension, if there is one; `observed` are volumes that a node has just reported."""
    group = controller.group
    journal = group.journal
    if journal is None or journal.outcome is not Outcome.RUNNING:
        return
    facts = extend_facts(
        cast(Any, group),
        cast(Any, journal),
        {(site, group.id): report for site, report in controller.reports.items()},
        refusals(cast(Any, group), observed),
        frozenset(),
        controller.machine.loop.time() >= journal.room_ends_at,
    )
    step = next_step(facts)
    if step is ExtendStep.WAIT:
        return
    controller.note(f"extension: {step.name.lower()}, since {step.value}")
    growing = [pair for pair in group.pairs if pair.production_volume.target_gib is not None]
    if step in (ExtendStep.GROW_DR, ExtendStep.GROW_PRODUCTION):
        for pair in growing:
            volume = pair.dr_volume if step is ExtendStep.GROW_DR else pair.production_volume
            volume.is_grown = True
        group.spec_version += 1
        journal.spec_version = group.spec_version
        return
    journal.outcome = Outcome.DONE if step is ExtendStep.FINISH else Outcome.UNDONE
    for pair in growing:
        for volume in pair.volumes:
            if step is ExtendStep.FINISH and volume.target_gib is not None:
                volume.size_gib = volume.target_gib
            volume.target_gib, volume.is_grown = None, False


def take_volumes(pairs: Sequence[SimPair], observed: Sequence[ObservedVolume]) -> None:
    """Take a node's word on its volumes in."""
    known = {volume.id: volume for pair in pairs for volume in pair.volumes}
    for item in observed:
        if item.id in known:
            known[item.id].store_bytes = item.store_bytes


def desired_volumes(pairs: Sequence[SimPair], site: str) -> list[DesiredVolume]:
    """Return what the node of a site should make of its volumes, as `control.desired`."""
    return [desired_volume(volume) for pair in pairs for volume in pair.volumes if volume.site == site]


def desired_volume(volume: SimVolume) -> DesiredVolume:
    """Return what a node should make of a volume."""
    room_bytes = (volume.target_gib or 0) * UNIT_BYTES
    return DesiredVolume(volume.id, volume.worker_gib * UNIT_BYTES, "sim", room_bytes=room_bytes)


def keep_sizes(now: Sequence[SimPair], backup: Sequence[SimPair]) -> bool:
    """Say whether disks have been given out larger than a backup of the database knows."""
    known = {volume.id: volume.worker_gib for pair in backup for volume in pair.volumes}
    return any(volume.worker_gib > known.get(volume.id, 0) for pair in now for volume in pair.volumes)
