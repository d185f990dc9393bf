"""What operators do: what they should, or anything; one or two of them, by what they saw, with answers that are lost.

An operator looks, thinks, and calls: what is true by then may be something else, and another operator may have called
meanwhile. Whoever loses the answer asks the same again without another look.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from twinsite.control.lifecycle.states import GroupStatus
from twinsite.core.limits import BLOCK_BYTES
from twinsite.messages import Mode, ObservedWorker, Replication
from twinsite.worker.primary_group import OPENS_ANEW
from twinsite.worker.taking_over import HALF_COPIED
from twinsite_sim.extending import Refused
from twinsite_sim.members import Changing
from twinsite_sim.volumes import UNIT_BYTES

if TYPE_CHECKING:
    from twinsite_sim.world import World

REPEATS_MAX = 3
"""So often at most an operator whose answers are lost makes one call."""
LOOKS_PAST_MAX = 5.0
"""Seconds that an operator may take to act on what it saw."""
PAUSE_LOOKS_MAX = 8
"""So often an operator tries to change the pairs of a group that is to be paused by then."""
DISTURBED_EXTENSION = "extension disturbed"
DISTURBED_MEMBERS = "members disturbed"
"""The faults that begin with a call of an operator."""
GROWTHS_BYTES = [512, 1536, BLOCK_BYTES // 2, BLOCK_BYTES, BLOCK_BYTES + 512, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES]
"""By how much a disk is extended."""
SIZE_BYTES_MAX = 20 * BLOCK_BYTES
"""Larger disks are not extended: worlds are to stay fast."""


@dataclass(frozen=True)
class Call:
    """A call to make. `to` is the site that a move is to end at, if the operator names it."""

    name: str
    to: str | None = None
    why: str = ""
    """What makes it due."""
    is_usual: bool = True
    """It follows from what an operator did. Otherwise it is due only while something does not work."""


class Operators:
    """The operators of one world."""

    def __init__(self, world: World, seed: str, *, forces: bool, focus: frozenset[str]) -> None:
        """Choose what they are like; with `forces` they accept losses without a need.

        What a fault of the `focus` disturbs they do in any case.
        """
        self._world = world
        self._forces = forces
        self._random = rng = random.Random(f"{seed} operators")
        self._count = rng.choice([1, 1, 2])
        self._pause_seconds = rng.choice([1.0, 3.0, 10.0])
        self._think_seconds = rng.choice([0.0, 0.0, 1.0, LOOKS_PAST_MAX])
        self._lost_rate = rng.choice([0.0, 0.0, 0.3])
        self._names_sites = rng.random() < 0.5
        self._growing = rng = random.Random(f"{seed} extensions")  # Of its own: most worlds are as without it.
        self.extends = rng.random() < 0.4 or DISTURBED_EXTENSION in focus
        """They extend disks now and then."""
        self._extend_pause_seconds = rng.choice([3.0, 10.0])
        self._extend_lost_rate = rng.choice([0.0, 0.3])
        self._changing = rng = random.Random(f"{seed} members")
        self.changes_members = rng.random() < 0.3 or DISTURBED_MEMBERS in focus
        """They add and remove pairs now and then."""
        self._change_pause_seconds = rng.choice([5.0, 15.0])
        self._members = Changing(world, rng)
        self.operations: Counter[str] = Counter()
        """Calls that were not refused."""

    async def run(self) -> None:
        """Work for ever; cancel to end it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._work())
            if self.extends:
                group.create_task(self._extend_now_and_then())
            if self.changes_members:
                group.create_task(self._change_members_now_and_then())

    async def _work(self) -> None:
        rng = self._random
        while True:
            await asyncio.sleep(rng.expovariate(1.0) * self._pause_seconds)
            call = self._wish()
            if call is None:
                continue
            if self._think_seconds:
                await asyncio.sleep(rng.random() * self._think_seconds)
            await _until_answered(rng, self._lost_rate, partial(self.call, call))

    async def _extend_now_and_then(self) -> None:
        rng = self._growing
        while True:
            await asyncio.sleep(rng.expovariate(1.0) * self._extend_pause_seconds)
            sizes_gib = self.larger_sizes()
            await _until_answered(rng, self._extend_lost_rate, partial(self.extend, sizes_gib))

    async def _change_members_now_and_then(self) -> None:
        rng = self._changing
        while True:
            await asyncio.sleep(rng.expovariate(1.0) * self._change_pause_seconds)
            await self.change_members()
            await asyncio.sleep(rng.random() * rng.choice([0.5, 5.0]))
            self.call(Call("synchronize"))

    async def change_members(self) -> bool:
        """Pause the group, and let a pair in or out; return whether that was admitted."""
        self.call(Call("stop"))
        for _ in range(PAUSE_LOOKS_MAX):
            await asyncio.sleep(self._changing.random())
            if self._members.change():
                self.operations["change members"] += 1
                return True
        return False

    def larger_sizes(self) -> dict[int, int]:
        """Choose pairs, and a larger size for each."""
        rng = self._growing
        sizes_gib = {}
        for pair in self._world.controller.group.pairs:
            size_gib = pair.production_volume.size_gib + rng.choice(GROWTHS_BYTES) // UNIT_BYTES
            if rng.random() < 0.6 and size_gib * UNIT_BYTES <= SIZE_BYTES_MAX:
                sizes_gib[pair.member_index] = size_gib
        return sizes_gib

    def extend(self, sizes_gib: dict[int, int]) -> bool:
        """Extend pairs, by member index; return whether that was admitted."""
        with contextlib.suppress(Refused):
            self._world.controller.extend(sizes_gib)
            self.operations["extend"] += bool(sizes_gib)
            return True
        return False

    def _wish(self) -> Call | None:
        """Return what an operator makes of what is shown now."""
        rng = self._random
        if self._forces and self._is_half_copied():
            return self._named("force")
        if rng.random() < 0.6:
            return self.due()
        names = ["synchronize", "stop", "failover", "reverse", "reverse", "reprotect"]
        if self._forces:
            names += ["force"]
        return self._named(rng.choice(names))

    def _named(self, name: str) -> Call:
        return Call(name, self._world.controller.group.secondary_station if self._names_sites else None)

    def _is_half_copied(self) -> bool:
        """Say whether a forced failover would roll the secondary back, or has to be refused in the middle of a copy."""
        controller = self._world.controller
        secondary = controller.reports.get(controller.group.secondary_station)
        if secondary is None or secondary.status is None or secondary.status.consistent:
            return False
        primary = controller.reports.get(controller.group.priority_station)
        left_bytes = primary.status.dirty_bytes if primary is not None and primary.status is not None else 0
        return secondary.status.rollback_point is not None or 0 < left_bytes < controller.size_bytes

    def has_forced_to_half_a_copy(self) -> bool:
        """Say whether the new primary's disks were half copied when it was told to lead: an old report said otherwise.

        Only another failover by force leads back.
        """
        primary = self._world.controller.reports.get(self._world.controller.group.priority_station)
        status = primary.status if primary is not None else None
        return status is not None and status.failure is not None and HALF_COPIED in status.failure.message

    def due(self, *, accepts_loss: bool = False) -> Call | None:
        """Return what an operator should do: protect what was failed over, repeat what failed, go on after a pause.

        `accepts_loss`: also force what would be refused.
        """
        failover = "force" if accepts_loss else "failover"
        controller = self._world.controller
        group = controller.group
        if group.status is GroupStatus.FAILED_OVER:
            return Call("reprotect", why="after a failover")
        if group.status is GroupStatus.ERROR_FAILING_OVER:
            return Call(failover, why="the new primary does not serve", is_usual=not accepts_loss)
        if group.status is GroupStatus.ERROR_REVERSING:
            return Call("synchronize", why="after a switchover that failed")
        if group.replication is Replication.PAUSED and group.status is not GroupStatus.UPDATING:
            return Call("synchronize", why="after a stop")
        primary = controller.reports.get(group.priority_station)
        if _opens_its_disks_anew(primary):
            return None  # That takes a minute at most.
        if accepts_loss and _waits_for_acceptance(primary):
            why = "production may lack writes and nobody brings them"
            return Call("give up", why=why, is_usual=False)
        if accepts_loss and self.has_forced_to_half_a_copy():
            return Call(failover, why="the new primary was half copied, and is protected again", is_usual=False)
        if controller.health().fault_level == "2":
            return Call(failover, why="production fails", is_usual=False)
        return None

    def call(self, call: Call) -> bool:
        """Make a call; return whether it was admitted. What is refused is refused."""
        world, name = self._world, call.name
        controller = world.controller
        with contextlib.suppress(Refused):
            if name in ("failover", "force"):
                controller.failover(force=name == "force", to=call.to)
            elif name == "reverse":
                controller.reverse(to=call.to)
            elif name == "give up":
                controller.stop(force=True)
            else:
                getattr(controller, name)()
            world.trace.add("operator", name)
            self.operations[name] += 1
            return True
        return False


async def _until_answered(rng: random.Random, lost_rate: float, ask: Callable[[], bool]) -> None:
    """Ask, and ask again as often as an answer is lost."""
    for _ in range(REPEATS_MAX):
        ask()
        if not lost_rate or rng.random() >= lost_rate:
            return
        await asyncio.sleep(rng.random() * rng.choice([0.5, 6.0]))


def _waits_for_acceptance(primary: ObservedWorker | None) -> bool:
    """Say whether a primary holds because it may lack writes that the other side cannot bring."""
    status = primary.status if primary is not None else None
    return status is not None and status.mode is Mode.HOLDING and status.doubtful


def _opens_its_disks_anew(primary: ObservedWorker | None) -> bool:
    """Say whether a primary waits for a pause to end after which it opens disks anew whose flush has failed."""
    status = primary.status if primary is not None else None
    return status is not None and status.failure is not None and OPENS_ANEW in status.failure.message
