"""One world: what there is, what happens to it, and what must hold."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from twinsite.control.lifecycle.states import ReplicationStatus
from twinsite.core.arbiter import Row, Secondary
from twinsite.core.limits import BLOCK_BYTES, SECTOR_BYTES
from twinsite.messages import Mode
from twinsite_sim.arbiter import ArbiterFaults, ArbiterWorld
from twinsite_sim.controller import Controller, Promotion
from twinsite_sim.faults import Mischief
from twinsite_sim.hosts import Hosts, random_habits
from twinsite_sim.ledger import Ledger
from twinsite_sim.loop import SimLoop, WorldFailure
from twinsite_sim.machine import Machine, Process
from twinsite_sim.network import Network
from twinsite_sim.node import SimNode, forget_runs, worker_of
from twinsite_sim.substitution import simulated_outside
from twinsite_sim.trace import Trace

STEPS_MAX = 2_000_000
HEAL_SECONDS_MAX = 180.0
"""After the faults have ended, a group is active again within this."""
QUIET_SECONDS_MAX = 90.0
"""When hosts ask for nothing new, everything is answered within this."""
LOOK_SECONDS = 0.5
"""How often the disks are looked at."""
BOOT_SECONDS = 4.0
"""Mean time that a machine stays down."""


@dataclass
class WorldResult:
    """How a world ended. `failure` is None if everything held."""

    seed: int
    failure: BaseException | None
    digest: str
    operations: dict[str, int]
    answered: int
    virtual_seconds: float
    steps: int
    trace: Trace = field(repr=False)


class World:
    """The parts of one world."""

    def __init__(self, seed: int) -> None:
        name = f"twinsite {seed}"
        self.seed = seed
        self.random = random.Random(f"{name} world")
        self.trace = Trace()
        self.loop = SimLoop()
        self.trace.use_clock(self.loop.time)
        self.network = Network(self.loop, self.trace, name)
        self.loop.network = self.network
        rng = self.random
        sizes = [
            rng.choice([2, 3, 5]) * BLOCK_BYTES + rng.choice([0, 0, 1536]) for _ in range(rng.choice([1, 2, 2, 3]))
        ]
        self.sizes_bytes = sizes
        self.machines: dict[str, Machine] = {}
        for number, machine_name in enumerate(["az1", "az2", "controller", "hosts"]):
            machine = Machine(machine_name, f"10.0.0.{number + 1}", self.loop, self.trace, name)
            self.machines[machine_name] = machine
            self.network.add(machine)
        for site in ("az1", "az2"):
            for index, size in enumerate(sizes):
                disk = self.machines[site].add_disk(f"/disk/{index}", size)
                disk.uncached_rate = rng.choice([0.0, 0.3])
            self.machines[site].on_lost_writes = self._lost_writes
            self.machines[site].thread_seconds = rng.choice([0.0002, 0.002, 0.02])
        self.controller = Controller(self.machines["controller"], sizes, random.Random(f"{name} controller"))
        self.controller.on_promoted = self._promoted
        self.controller.on_row = self._row_changed
        self.arbiter = ArbiterWorld(self.network, self.controller, name)
        self.ledger = Ledger(sizes)
        self.hosts = Hosts(
            self.machines["hosts"], self.machines, self.network, self.controller, self.ledger, name
        )
        self.hosts.on_attached = self._attached
        self.hosts.on_done = self._answered
        self.hosts.can_check_reads = lambda site: self._unchecked is None and not self._is_beyond and not self._lacking[site]
        self.nodes = [
            SimNode(site, self.machines[site], self.network, self.controller, name) for site in ("az1", "az2")
        ]
        self.mischief = Mischief(self, name)
        self.network.latency_seconds = rng.choice([0.0001, 0.001, 0.01])
        self.network.jitter_seconds = rng.choice([0.0001, 0.005])
        self.network.chunk_rate = rng.choice([0.0, 0.1, 0.5])
        self.fault_seconds = rng.choice([15.0, 30.0, 60.0])
        self.operations: dict[str, int] = {}
        self.spares_known_gaps = True
        self._shown: set[tuple[int, int]] = set()
        self._unchecked: Promotion | None = None
        self._lacking: dict[str, bool] = {"az1": False, "az2": False}
        self._was_in_sync = False
        self._is_beyond = False
        self._healed_at = 0.0

    # The story

    async def main(self) -> None:
        """Faults first: nothing may be lost. Then peace: everything must come back."""
        self.hosts.start(random_habits(self.random))
        watching = self.loop.create_task(self._watch())
        booting = self.loop.create_task(self._boot_machines())
        await asyncio.sleep(0.5)
        self.mischief.call("synchronize")
        await asyncio.sleep(self.random.choice([0.5, 3.0, 8.0]))
        self.trace.add("world", f"faults begin: {', '.join(name for name, _, _ in self.mischief.kinds)}")
        faults = self.loop.create_task(self.mischief.run())
        operators = self.loop.create_task(self.mischief.operate())
        await asyncio.sleep(self.fault_seconds)
        faults.cancel()
        operators.cancel()
        await asyncio.gather(faults, operators, return_exceptions=True)
        self.trace.add("world", "faults end")
        await self._heal()
        self.hosts.pause(on=True)
        await self._until(
            lambda: not self.hosts.busy and not self.ledger.pending, QUIET_SECONDS_MAX, "hosts get their answers"
        )
        await self._until(self._is_at_rest, QUIET_SECONDS_MAX, "the group is active and at rest")
        watching.cancel()
        booting.cancel()
        self._check_twins()

    async def _heal(self) -> None:
        for node in self.nodes:
            machine = node.machine
            machine.boot()
            if not node.process.is_alive:
                node.start()
            machine.set_clock(0.0)
            machine.slow_rate = 0.0
            worker = worker_of(node)
            if worker is not None:
                worker.operations_left = None
                if any(store_failed(worker)) and node.run is not None:
                    node.run.stop()
        self.controller.machine.set_clock(0.0)
        self.arbiter.faults = ArbiterFaults()
        self.network.stall_rate = 0.0
        self._healed_at = self.loop.time()
        ends_at = self.loop.time() + HEAL_SECONDS_MAX
        looks = 0
        while not self._is_active():
            await asyncio.sleep(1.0)
            looks += 1
            if looks % 10 == 0:
                self.mischief.do_what_is_due(even_if_known=looks >= 30)
            if self.loop.time() > ends_at:
                raise WorldFailure(f"the group is not active again {HEAL_SECONDS_MAX:.0f} s after the faults: {self._how()}")

    async def _until(self, condition: Any, seconds_max: float, what: str) -> None:
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
            self.controller.settle_moves()

    def _is_active(self) -> bool:
        if min(self.controller.reported_at.get(site, 0.0) for site in ("az1", "az2")) < self._healed_at + 1.0:
            return False  # An old report may say so.
        health = self.controller.health()
        is_shown = health.replication_status is ReplicationStatus.ACTIVE and health.fault_level == "0"
        return is_shown and health.status is not None and health.status.mode is Mode.IN_SYNC

    def _is_at_rest(self) -> bool:
        status = self.controller.health().status
        return self._is_active() and status is not None and not status.dirty_bytes

    def _how(self) -> str:
        group = self.controller.group
        health = self.controller.health()
        modes = {
            site: (report.status.mode.value if report.status else "silent", report.status and report.status.failure)
            for site, report in self.controller.reports.items()
        }
        return (
            f"group {group.status} {group.replication}, {health.replication_status}, fault level {health.fault_level}, "
            f"row {self.controller.row}, workers {modes}, {len(self.ledger.pending)} changes unanswered"
        )

    # What is looked at

    def images(self, site: str) -> list[bytearray]:
        """Return what a site's disks show."""
        return [disk.content for disk in self.machines[site].disks.values()]

    def _attached(self, client: Any, attachment: Any) -> None:
        """A site shows its disks to a host: they must show everything, or what a forced failover has left."""
        del attachment
        process: Process = client.server_process
        site = process.machine.name
        row = self.controller.row
        if site != row.primary_site or not process.is_alive:
            return  # It was replaced and does not know yet, or it is gone and its host does not know yet.
        key = (id(process), row.term)
        promotion = self._unchecked
        if promotion is None and self._is_beyond:
            self._start_over(process)
            return
        if promotion is not None:
            if site != promotion.site:
                return
            self._unchecked = None
            self._shown.add(key)
            self._check_promoted(promotion, process)
            return
        what = f"{process.name} shows its disks under term {row.term}"
        if key in self._shown:
            self.ledger.check(self.images(site), what)
        else:
            self._shown.add(key)
            self.ledger.settle(self.images(site), process, self.loop.time(), what)

    def _check_promoted(self, promotion: Promotion, process: Process) -> None:
        images = self.images(promotion.site)
        what = f"{process.name} after a failover"
        if self._is_beyond:
            self._start_over(process)
            return
        if not promotion.is_forced:
            self.ledger.settle(images, process, self.loop.time(), what)
            return
        lost = self.ledger.start_anew(images, self.loop.time(), what)
        self.trace.add("checker", f"the forced failover has lost {len(lost)} changes of sectors")
        loss = promotion.loss
        assert loss is not None
        if loss.since is not None:
            since = min(self.machines[promotion.stater].true_times(loss.since))
            for change, shown in lost:
                if change.done_at is not None and change.done_at < since:
                    raise WorldFailure(
                        f"{what}: it stated the loss of {loss}, which is {since:.4f}, but {change}, done at "
                        f"{change.done_at:.4f}, is lost too; {shown} is shown"
                    )
        if loss.bytes_at_most is not None:
            sectors = {
                (change.volume, sector)
                for change, _ in lost
                if change.done_at is not None and change.done_at < promotion.reported_at
                for sector in change.sectors
            }
            del sectors

    def _start_over(self, process: Process) -> None:
        """What is known and not yet solved has happened: take what is shown for the history."""
        self._is_beyond = False
        self.trace.add("checker", "a known gap was met: what is shown now is the history")
        images = self.images(process.machine.name)
        self.ledger.start_anew(images, self.loop.time(), "a known gap", is_of_one_moment=False)

    def _answered(self, change: Any) -> None:
        """A host was told: two of three must stand behind that."""
        row = self.controller.row
        process: Process = change.place
        site = process.machine.name
        if self._unchecked is not None or row.secondary is Secondary.STALE or self._lacking[self._other(site)]:
            return
        if site != row.primary_site:
            return  # Sent before the failover; the promoted disks are held to it.
        content = self.images(self._other(site))[change.volume]
        for sector in change.sectors:
            at = sector * SECTOR_BYTES
            word = int.from_bytes(content[at : at + 8], "little")
            if not self.ledger.may_show(change.volume, sector, word):
                raise WorldFailure(f"{change} was told done, and {self._other(site)} lacks it while it counts as in sync")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Whoever is primary has everything, and so has a secondary that counts as in sync."""
        if self._unchecked is not None or self._is_beyond:
            return
        row = self.controller.row
        if not self._lacking[row.primary_site]:
            self.ledger.check(self.images(row.primary_site), f"the primary {row.primary_site}")
        other = self._other(row.primary_site)
        if row.secondary is Secondary.IN_SYNC and not self._lacking[other]:
            self.ledger.check(self.images(other), f"{other}, which counts as in sync")

    def _check_twins(self) -> None:
        primary = self.controller.row.primary_site
        self.ledger.check(self.images(primary), "in the end")
        pairs = zip(self.images("az1"), self.images("az2"), strict=True)
        for index, (one, other) in enumerate(pairs):
            if one != other:
                sector = next(
                    n
                    for n in range(len(one) // SECTOR_BYTES)
                    if one[n * SECTOR_BYTES : (n + 1) * SECTOR_BYTES] != other[n * SECTOR_BYTES : (n + 1) * SECTOR_BYTES]
                )
                raise WorldFailure(f"the twins differ although the group is active: volume {index}, sector {sector}")

    # What the checkers must know of

    def _other(self, site: str) -> str:
        return "az2" if site == "az1" else "az1"

    def _promoted(self, promotion: Promotion) -> None:
        self._is_beyond = self._is_beyond or self.is_known_gap() or self._unchecked is not None
        self._unchecked = promotion
        self.ledger.forked_machine = self.machines[self._other(promotion.site)] if promotion.is_forced else None

    def _row_changed(self, row: Row, why: str) -> None:
        del why
        is_in_sync = row.secondary is Secondary.IN_SYNC
        if is_in_sync and not self._was_in_sync:
            self.ledger.forked_machine = None
            for site in ("az1", "az2"):
                with contextlib.suppress(WorldFailure):
                    if self._lacking[site] and self._unchecked is None:
                        self.ledger.check(self.images(site), site)
                        self._lacking[site] = False
        elif not is_in_sync and self._was_in_sync and self._lacking[row.primary_site] and self.spares_known_gaps:
            # A grant of the time before its machine crashed: it goes on with what it has, and the other has more.
            self._is_beyond = True
        self._was_in_sync = is_in_sync

    def _lost_writes(self, machine: Machine, path: str, sectors: list[int], was_told: bool) -> None:
        """A disk has lost what was not flushed: who had it only there is excused, if it was the group's own copy.

        `was_told`: a host's flush has failed there, so what it was to cover is undefined by the host's own rules.
        """
        row = self.controller.row
        site = machine.name
        is_in_sync = row.secondary is Secondary.IN_SYNC
        if site != row.primary_site and not is_in_sync:
            self._lacking[site] = True
            return
        index = list(machine.disks).index(path)
        other_site = self._other(site)
        is_held = is_in_sync and not (was_told and site == row.primary_site)
        other = self.images(other_site)[index] if is_held else None
        excused = self.ledger.crashed(index, sectors, machine.disks[path].content, other)
        self._lacking[site] = True
        if excused:
            self.trace.add("checker", f"{len(excused)} sectors of volume {index} are excused")

    def is_known_gap(self) -> bool:
        """Say whether a failover would now meet what is known and not yet solved."""
        row = self.controller.row
        target = self._other(row.primary_site)
        return self.spares_known_gaps and self._lacking[target]

    # The end

    def dispose(self) -> None:
        """Leave nothing behind."""
        for machine in self.machines.values():
            for process in list(machine.processes):
                process.is_alive = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # A coroutine that never began says so at its end.
            for process in self.loop.processes:
                process.dispose()
        self.loop.close()


def store_failed(worker: Process) -> Iterator[bool]:
    """Yield, for each disk of a worker's machine, whether a store on it may have failed a flush for good."""
    for disk in worker.machine.disks.values():
        yield disk.has_failed_flush


def run_world(seed: int) -> WorldResult:
    """Run one world to its end; a failure is in the result."""
    with _no_collection():
        world = World(seed)
        failure: BaseException | None = None
        with simulated_outside(world.network, world.arbiter, world.trace, f"twinsite {seed}"):
            try:
                world.loop.run_world(world.main(), steps_max=STEPS_MAX)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                failure = error
            finally:
                world.trace.end()
                world.dispose()
                forget_runs()
        return WorldResult(
            seed=seed,
            failure=failure,
            digest=world.trace.digest(),
            operations=world.operations,
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
