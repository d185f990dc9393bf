"""One world: what there is, and what happens to it from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twinsite.control.lifecycle.states import GroupStatus, ReplicationStatus
from twinsite.core.limits import BLOCK_BYTES
from twinsite.messages import Mode, Replication
from twinsite_sim.arbiter import ArbiterFaults, ArbiterWorld
from twinsite_sim.controller import Controller
from twinsite_sim.extending import is_extending, settle_extend
from twinsite_sim.faults import Mischief
from twinsite_sim.hosts import Hosts, random_habits
from twinsite_sim.judge import Judge
from twinsite_sim.ledger import Ledger
from twinsite_sim.loop import SimLoop, WorldFailure
from twinsite_sim.machine import Machine
from twinsite_sim.network import Network
from twinsite_sim.node import SimNode, forget_runs, status_now, worker_of
from twinsite_sim.operators import Call, Operators
from twinsite_sim.substitution import simulated_outside
from twinsite_sim.trace import Trace

STEPS_MAX = 2_000_000
"""Events of a world; one that has more does not end."""
HEAL_SECONDS_MAX = 180.0
"""After the faults have ended, a group is active again within this."""
HELP_SECONDS = 10
"""How often an operator looks then, in seconds."""
PATIENCE_SECONDS = 60
"""After so long an operator does what should not be needed."""
QUIET_SECONDS_MAX = 90.0
"""When hosts ask for nothing new, everything is answered within this."""
LOOK_SECONDS = 0.5
"""How often the disks are looked at."""
BOOT_SECONDS = 4.0
"""Mean time that a machine stays down."""
_CHANGING = frozenset({GroupStatus.UPDATING, GroupStatus.ERROR})
SITES = ("az1", "az2")


@dataclass
class WorldResult:
    """How a world ended. `failure` is None if everything held."""

    seed: int
    failure: BaseException | None
    digest: str
    operations: dict[str, int]
    help: dict[str, int]
    """What operators had to do after the faults, and why."""
    answered: int
    virtual_seconds: float
    steps: int
    trace: Trace = field(repr=False)


class World:
    """The parts of one world."""

    def __init__(self, seed: int, focus: frozenset[str] = frozenset()) -> None:
        """Build the world of a seed; nothing has happened yet.

        `focus` names the only faults that it has, if any; its operators accept losses without a need then.
        """
        name = world_name(seed)
        self.random = random.Random(f"{name} world")
        self.trace = Trace()
        self.loop = SimLoop()
        self.trace.use_clock(self.loop.time)
        self.network = Network(self.loop, self.trace, name)
        self.loop.network = self.network
        self.machines: dict[str, Machine] = {}
        for number, machine_name in enumerate([*SITES, "controller", "hosts"]):
            machine = Machine(machine_name, f"10.0.0.{number + 1}", self.loop, self.trace, name)
            self.machines[machine_name] = machine
            self.network.add(machine)
        sizes = self._plug_in_disks()
        self.controller = Controller(self.machines["controller"], sizes)
        self.arbiter = ArbiterWorld(self.network, self.controller, name)
        self.ledger = Ledger(sizes)
        self.judge = Judge(self.loop, self.trace, self.machines, self.controller, self.ledger)
        self.hosts = Hosts(self.machines["hosts"], self.machines, self.controller, self.ledger, name)
        self.hosts.on_attached = self.judge.attached
        self.hosts.on_done = self.judge.answered
        self.hosts.can_check_reads = self.judge.can_check_reads
        self.nodes = [SimNode(site, self.machines[site], self.network, self.controller, name) for site in SITES]
        self.judge.status_of = lambda site: status_now(self.nodes[SITES.index(site)])
        self.arbiter.on_replaced = self.judge.replaced
        self.hosts.on_served = self.judge.served
        forces = self.random.random() < 0.3 or bool(focus)
        self.operators = Operators(self, name, forces=forces, focus=focus)
        self.mischief = Mischief(self, name, focus)
        self.fault_seconds = self.random.choice([15.0, 30.0, 60.0])
        self.help: Counter[str] = Counter()
        """Calls that it took after the faults: what an operator should do then, and why."""
        self._healed_at = 0.0

    def _plug_in_disks(self) -> list[int]:
        """Choose what the machines and links are like; return the sizes of the volumes in bytes."""
        rng = self.random
        count = rng.choice([1, 2, 2, 3])
        sizes = [rng.choice([2, 3, 5, 9]) * BLOCK_BYTES + rng.choice([0, 0, 1536]) for _ in range(count)]
        for site in SITES:
            machine = self.machines[site]
            for index, size in enumerate(sizes):
                machine.add_disk(f"/disk/{index}", size).uncached_rate = rng.choice([0.0, 0.3])
            machine.thread_seconds = rng.choice([0.0002, 0.002, 0.02])
        self.network.latency_seconds = rng.choice([0.0001, 0.001, 0.01])
        self.network.jitter_seconds = rng.choice([0.0001, 0.005])
        self.network.chunk_rate = rng.choice([0.0, 0.1, 0.5])
        return sizes

    async def main(self) -> None:
        """Faults first: nothing may be lost. Then peace: everything must come back."""
        self.hosts.start(random_habits(self.random))
        watching = self.loop.create_task(self._watch())
        booting = self.loop.create_task(self._boot_machines())
        await asyncio.sleep(0.5)
        quiet_seconds = self.random.choice([-4.0, 0.5, 3.0, 8.0])
        if quiet_seconds > 0:
            self.operators.call(Call("synchronize"))
            await asyncio.sleep(quiet_seconds)
        self.trace.add("world", f"faults begin: {', '.join(name for name, _, _ in self.mischief.kinds)}")
        faults = self.loop.create_task(self.mischief.run())
        if quiet_seconds < 0:  # The first copy is made among faults.
            await asyncio.sleep(-quiet_seconds)
            self.operators.call(Call("synchronize"))
        operators = self.loop.create_task(self.operators.run())
        await asyncio.sleep(self.fault_seconds)
        faults.cancel()
        operators.cancel()
        await asyncio.gather(faults, operators, return_exceptions=True)
        self.trace.add("world", "faults end")
        await self._heal()
        await self._until(self._is_settled, QUIET_SECONDS_MAX, "disks and members are as they should")
        self.hosts.pause(on=True)
        await self._until(self._is_answered, QUIET_SECONDS_MAX, "hosts get their answers")
        await self._until(self._is_at_rest, QUIET_SECONDS_MAX, "the group is active and at rest")
        # What a host sent before it gave a connection up may arrive late, and is on its way to the twin then.
        await self._until(self.judge.twins_are_equal, QUIET_SECONDS_MAX, "the twins are equal")
        watching.cancel()
        booting.cancel()
        self.judge.check_end()

    async def _heal(self) -> None:
        """Repair what a person repairs, then wait for what comes back by itself."""
        for machine in self.machines.values():
            machine.set_clock(0.0)
            machine.slow_rate = 0.0
        for node in self.nodes:
            node.machine.boot()
            if not node.process.is_alive:
                node.start()
            worker = worker_of(node)
            if worker is not None:
                worker.operations_left = None
        self.arbiter.faults = ArbiterFaults()
        self.network.stall_rate = 0.0
        self._healed_at = self.loop.time()
        looks = 0
        while not self._is_active():
            await asyncio.sleep(1.0)
            looks += 1
            is_last_way_out = looks >= PATIENCE_SECONDS
            due = self.operators.due(accepts_loss=is_last_way_out)
            if looks % HELP_SECONDS == 0 and due is not None and (due.is_usual or is_last_way_out):
                self._help(due)
            if self.loop.time() > self._healed_at + HEAL_SECONDS_MAX:
                raise WorldFailure(
                    f"the group is not active again {HEAL_SECONDS_MAX:.0f} s after the faults: {self._how()}"
                )

    def _help(self, call: Call) -> None:
        """Make an operator's call after the faults, and count it.

        Raises `WorldFailure` for what should not be needed: all machines and links work by now.
        """
        may_be_needed = call.is_usual or self.judge.may_both_have_lost() or self.operators.has_forced_to_half_a_copy()
        if not self.operators.call(call):
            return
        self.help[f"{call.name}: {call.why}"] += 1
        if not may_be_needed:
            raise WorldFailure(f"the group is not active again but by '{call.name}', since {call.why}: {self._how()}")

    async def _until(self, condition: Callable[[], bool], seconds_max: float, what: str) -> None:
        ends_at = self.loop.time() + seconds_max
        while not condition():
            await asyncio.sleep(0.25)
            if self.loop.time() > ends_at:
                raise WorldFailure(f"not within {seconds_max:.0f} s: {what}; {self._how()}")

    async def _boot_machines(self) -> None:
        """Whoever finds a machine down turns it on."""
        while True:
            await asyncio.sleep(0.5)
            for node in self.nodes:
                if not node.machine.is_up and self.random.random() < 0.5 / BOOT_SECONDS:
                    node.machine.boot()
                if node.machine.is_up and not node.process.is_alive:
                    node.start()
            if not self.controller.is_down():
                self.controller.settle_moves()
                settle_extend(self.controller)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.judge.look()

    def _is_answered(self) -> bool:
        return not self.hosts.busy and not self.ledger.pending

    def _is_active(self) -> bool:
        if min(self.controller.reported_at.get(site, 0.0) for site in SITES) < self._healed_at + 1.0:
            return False  # An old report may say so.
        if self.controller.group.replication is Replication.PAUSED:
            return False  # Its primary may not have heard of that.
        health = self.controller.health()
        is_shown = health.replication_status is ReplicationStatus.ACTIVE and health.fault_level == "0"
        return is_shown and health.status is not None and health.status.mode is Mode.IN_SYNC

    def _is_at_rest(self) -> bool:
        status = self.controller.health().status
        return self._is_active() and status is not None and not status.dirty_bytes

    def _is_settled(self) -> bool:
        """Say whether no extension and no change of members is under way, and the sizes of all are in force."""
        controller = self.controller
        if is_extending(controller.group.pairs) or controller.group.status in _CHANGING:
            return False
        for node in self.nodes:
            status = status_now(node)
            given = {member.volume_id: member.size_bytes for member in controller.spec_for(node.site).members}
            if status is None or {m.volume_id: m.size_bytes for m in status.members} != given:
                return False
        return True

    def _how(self) -> str:
        group, health = self.controller.group, self.controller.health()
        modes = {
            site: (report.status.mode.value if report.status else "silent", report.status and report.status.failure)
            for site, report in self.controller.reports.items()
        }
        return (
            f"group {group.status} {group.replication}, {health.replication_status}, fault level {health.fault_level}, "
            f"row {self.controller.row}, workers {modes}, {len(self.ledger.pending)} changes unanswered"
        )

    def dispose(self) -> None:
        """End what still waits, and leave nothing behind."""
        self.trace.end()
        for process in self.loop.processes:
            process.is_alive = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # A coroutine that never began says so at its end.
            for process in self.loop.processes:
                process.dispose()
            self.loop.dispose()
        forget_runs()


def world_name(seed: int) -> str:
    """Return what all random numbers of a world are made of."""
    return f"twinsite {seed}"


def run_world(seed: int, focus: frozenset[str] = frozenset()) -> WorldResult:
    """Run one world to its end; a failure is in the result. `focus` is as for `World`."""
    with _no_collection():
        world = World(seed, focus)
        failure: BaseException | None = None
        with simulated_outside(world.network, world.arbiter, world.trace, world_name(seed)):
            try:
                world.loop.run_world(world.main(), steps_max=STEPS_MAX)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                failure = error
            finally:
                world.dispose()
        return WorldResult(
            seed=seed,
            failure=failure,
            digest=world.trace.digest(),
            operations=dict(world.operators.operations),
            help=dict(world.help),
            answered=world.hosts.answered,
            virtual_seconds=world.loop.time(),
            steps=world.loop.steps,
            trace=world.trace,
        )


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from ending coroutines of dead processes in the middle of a world."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
