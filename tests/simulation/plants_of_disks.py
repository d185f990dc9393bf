"""Bugs to plant in what extends the disks of a group, and lets pairs in and out. As in `plants`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.plants import Plant
from twinsite.control.lifecycle import extending as table
from twinsite.control.lifecycle.extending import ExtendFacts, ExtendStep
from twinsite.core.group.convergence import Convergence
from twinsite.core.tracking.intents import HOT, IntentMap
from twinsite.worker.intent_log import IntentLog
from twinsite.worker.primary_group import PrimaryGroup
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite_sim import extending
from twinsite_sim.operators import DISTURBED_EXTENSION, DISTURBED_MEMBERS


def answer_for_what_was_not_extended(patch: pytest.MonkeyPatch) -> None:
    """Acknowledge what travels behind the former end of a disk at the secondary, and do not apply it."""
    honest = SecondaryGroup.apply_frames

    def apply_frames(self: SecondaryGroup, session: Any, operations: Any) -> None:
        former = self.__dict__.setdefault("former_sizes", {m.index: m.size_bytes for m in self._spec.members})
        honest(self, session, [one for one in operations if one.offset + one.length <= former[one.volume]])

    patch.setattr(SecondaryGroup, "apply_frames", apply_frames)


def take_the_new_range_for_recorded(patch: pytest.MonkeyPatch) -> None:
    """Let writes to what a disk has grown by go on without a record in the intent log."""
    honest = IntentMap.grow

    def grow(self: IntentMap, size_bytes: int) -> None:
        former_count = self.extent_count
        honest(self, size_bytes)
        self.states[former_count:] = bytes([HOT]) * (self.extent_count - former_count)

    patch.setattr(IntentMap, "grow", grow)


def forget_what_differs_when_a_disk_grows(patch: pytest.MonkeyPatch) -> None:
    """Begin the map of what the secondary lacks anew."""
    honest = Convergence.grow

    def grow(self: Convergence, index: int, size_bytes: int) -> None:
        honest(self, index, size_bytes)
        self.members[index].dirty.clear()

    patch.setattr(Convergence, "grow", grow)


def undo_what_hosts_have_seen(patch: pytest.MonkeyPatch) -> None:
    """End an extension as if it were undone, although hosts have seen the new sizes."""

    def next_step(facts: ExtendFacts) -> ExtendStep:
        step = table.next_step(facts)
        return ExtendStep.UNDO if step is ExtendStep.FINISH else step

    patch.setattr(extending, "next_step", next_step)


def take_a_new_member_for_copied(patch: pytest.MonkeyPatch) -> None:
    """Let the primary believe that the secondary has what lies on a disk that has just come."""
    honest = PrimaryGroup.change_members

    async def change_members(self: PrimaryGroup, spec: Any, added: Any, removed: Any) -> None:
        await honest(self, spec, added, removed)
        for index in added:
            self.machine.members[index].dirty.clear()

    patch.setattr(PrimaryGroup, "change_members", change_members)


def call_an_image_with_a_new_member_consistent(patch: pytest.MonkeyPatch) -> None:
    """Let the secondary say that all its disks are of one moment, as those were that it had before."""
    honest = SecondaryGroup.change_members

    async def change_members(self: SecondaryGroup, spec: Any, added: Any, removed: Any) -> None:
        was_consistent = self._state.is_consistent
        await honest(self, spec, added, removed)
        self._state.is_consistent = was_consistent

    patch.setattr(SecondaryGroup, "change_members", change_members)


def forget_the_records_of_members_that_stay(patch: pytest.MonkeyPatch) -> None:
    """Begin the intent log anew when members change."""
    honest = IntentLog._change_members

    def change_members(self: IntentLog, members: Any) -> None:
        for intents in self.maps.values():
            intents.clear(0, intents.extent_count)
        honest(self, members)

    patch.setattr(IntentLog, "_change_members", change_members)


_BROKEN = frozenset({DISTURBED_EXTENSION, "blip"})
_CRASHES = frozenset({DISTURBED_EXTENSION, "machine crash", "worker killed", "blip"})
_MEMBERS = frozenset({DISTURBED_MEMBERS, "machine crash", "worker killed", "blip"})

PLANTS_OF_DISKS: list[tuple[Plant, frozenset[str]]] = [
    (answer_for_what_was_not_extended, _BROKEN),
    (take_the_new_range_for_recorded, _CRASHES),
    (forget_what_differs_when_a_disk_grows, _BROKEN),
    (undo_what_hosts_have_seen, _BROKEN),
    (take_a_new_member_for_copied, _MEMBERS),
    (call_an_image_with_a_new_member_consistent, _MEMBERS),
    (forget_the_records_of_members_that_stay, _MEMBERS),
]
"""Each with the faults of the worlds that look for it, as in `PLANTS`."""
