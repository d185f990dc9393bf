"""What goes wrong in a world. Which of it happens, and how often, the seed says.

A fault lasts for a while and is then undone; the end of all faults undoes those that last.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from twinsite_sim.arbiter import ArbiterFaults
from twinsite_sim.controller import Backup
from twinsite_sim.machine import Machine, Process
from twinsite_sim.node import SimNode, worker_of
from twinsite_sim.operators import DISTURBED_EXTENSION, DISTURBED_MEMBERS, Call

if TYPE_CHECKING:
    from twinsite_sim.world import World

Fault = Callable[[], Any]


class Mischief:
    """The faults of one world."""

    def __init__(self, world: World, seed: str, focus: frozenset[str]) -> None:
        """Choose what goes wrong; with a `focus` only the kinds of these names do."""
        self._world = world
        self.random = random.Random(f"{seed} mischief")
        rng = self.random
        kinds: list[tuple[str, Fault, float]] = [
            ("worker killed", self._kill_worker, 1.0),
            ("worker killed inside", self._kill_inside, 1.0),
            ("worker restarted", self._restart_worker, 0.5),
            ("worker frozen", self._freeze_worker, 0.7),
            ("node frozen", self._freeze_node, 0.5),
            ("machine crash", self._crash_machine, 0.7),
            ("machine crash inside", self._crash_inside, 0.7),
            ("stream cut", self._cut_stream, 1.5),
            ("stream blocked", self._block_stream, 1.5),
            ("controller cut off", self._block_controller, 1.0),
            ("site cut off", self._block_site, 0.5),
            ("hosts cut off", self._block_hosts, 0.5),
            ("controller down", self._controller_down, 0.7),
            ("database restored", self._database_restored, 0.4),
            ("promotion forgotten", self._promotion_forgotten, 0.3),
            ("arbiter faults", self._arbiter_faults, 1.0),
            ("slow network", self._slow_network, 0.7),
            ("slow threads", self._slow_threads, 0.7),
            ("disk errors", self._disk_errors, 0.5),
            ("flush fails", self._flush_fails, 0.3),
            ("full disk", self._full_disk, 0.4),
            ("full state", self._full_state, 0.4),
            ("clock jumps", self._clock_jumps, 0.5),
            ("blip", self._blip, 1.5),
        ]
        # Each world has some kinds only: rare combinations come up because the rest is quiet.
        share = rng.choice([0.2, 0.5, 1.0])
        self.kinds = [kind for kind in kinds if rng.random() < share]
        self.pause_seconds = rng.choice([0.7, 2.0, 5.0])
        # Chosen apart from the others, so that a world without extensions is as if there were none.
        self._disturbing = rng = random.Random(f"{seed} mischief of extensions")
        of_extensions: list[tuple[str, Fault, float]] = [
            (DISTURBED_EXTENSION, self._extension_disturbed, 1.0),
            ("pool full", self._pool_full, 0.5),
        ]
        if world.operators.extends:
            self.kinds += [kind for kind in of_extensions if rng.random() < max(share, 0.5)]
        of_members: tuple[str, Fault, float] = (DISTURBED_MEMBERS, self._members_disturbed, 1.0)
        if world.operators.changes_members:
            self.kinds.append(of_members)
        kinds += [*of_extensions, of_members]
        if focus:
            assert focus <= {name for name, _, _ in kinds}
            self.kinds = [kind for kind in kinds if kind[0] in focus]
        self._is_forgetting = False
        self._left: list[Backup] = []
        """Databases as they were when another one took their place."""

    async def run(self) -> None:
        """Let faults happen for ever; cancel to end them all."""
        world, rng = self._world, self.random
        tasks: list[asyncio.Task[None]] = []
        try:
            while True:
                await asyncio.sleep(rng.expovariate(1.0) * self.pause_seconds)
                if not self.kinds:
                    continue
                name, fault, _ = rng.choices(self.kinds, [weight for _, _, weight in self.kinds])[0]
                del name
                outcome = fault()
                if outcome is not None:
                    tasks.append(world.loop.create_task(self._last(outcome)))
        finally:
            for task in tasks:
                task.cancel()

    async def _last(self, context: Any) -> None:
        async with context:
            longest = self.random.choice([0.3, 2.0, 8.0, 20.0])
            await asyncio.sleep(self.random.random() * longest)

    # Which

    def _site(self) -> SimNode:
        return self.random.choice(self._world.nodes)

    def _note(self, text: str) -> None:
        self._world.trace.add("fault", text)

    # Processes and machines

    def _kill_worker(self) -> None:
        worker = worker_of(self._site())
        if worker is not None:
            self._note(f"kills {worker.name}")
            worker.end()

    def _kill_inside(self) -> None:
        worker = worker_of(self._site())
        if worker is not None and worker.operations_left is None:
            worker.operations_left = self.random.choice([1, 5, 30, 100])
            worker.operations_left = self.random.randrange(worker.operations_left + 1)

    def _crash_inside(self) -> None:
        worker = worker_of(self._site())
        if worker is not None and worker.operations_left is None:
            worker.operations_left = self.random.randrange(60)
            worker.takes_machine_down = True

    def _restart_worker(self) -> None:
        node = self._site()
        if node.run is not None and worker_of(node) is not None:
            node.run.stop()

    @asynccontextmanager
    async def _frozen(self, process: Process) -> AsyncIterator[None]:
        process.freeze(on=True)
        try:
            yield
        finally:
            process.freeze(on=False)

    def _freeze_worker(self) -> Any:
        worker = worker_of(self._site())
        return self._frozen(worker) if worker is not None and not worker.is_frozen else None

    def _freeze_node(self) -> Any:
        """The site is silent and hears nothing, and its worker goes on."""
        node = self._site().process
        return self._frozen(node) if node.is_alive and not node.is_frozen else None

    def _crash_machine(self) -> None:
        self._site().machine.crash()

    # Links

    @asynccontextmanager
    async def _blocked(self, routes: list[tuple[Machine, Machine]]) -> AsyncIterator[None]:
        network = self._world.network
        for source, target in routes:
            self._note(f"blocks {source.name} to {target.name}")
            network.block(source, target)
        try:
            yield
        finally:
            for source, target in routes:
                self._note(f"opens {source.name} to {target.name}")
                network.unblock(source, target)

    def _some_of(self, one: Machine, other: Machine) -> list[tuple[Machine, Machine]]:
        both = [(one, other), (other, one)]
        return self.random.choice([both, both, both[:1], both[1:]])

    def _block_stream(self) -> Any:
        return self._blocked(self._some_of(*(node.machine for node in self._world.nodes)))

    def _block_controller(self) -> Any:
        return self._blocked(self._some_of(self._site().machine, self._world.controller.machine))

    def _routes_around(self, site: Machine) -> list[tuple[Machine, Machine]]:
        """Return the routes between a site and everybody else, its hosts excepted."""
        others = [node.machine for node in self._world.nodes if node.machine is not site]
        others.append(self._world.controller.machine)
        return [route for other in others for route in ((site, other), (other, site))]

    def _block_site(self) -> Any:
        return self._blocked(self._routes_around(self._site().machine))

    def _block_hosts(self) -> Any:
        return self._blocked(self._some_of(self._site().machine, self._world.hosts.machine))

    def _cut_stream(self) -> None:
        connections = list(self._world.network.connections)
        if connections:
            connection = self.random.choice(connections)
            self._note(f"resets {connection.dialler.name} to {connection.acceptor.name}")
            self._world.network.break_connection(connection)

    def _blip(self) -> None:
        """Reset what is between the two sites: usually the stream."""
        sites = {node.machine for node in self._world.nodes}
        for connection in list(self._world.network.connections):
            if connection.dialler.machine in sites:
                self._note(f"resets the stream of {connection.dialler.name}")
                self._world.network.break_connection(connection)

    @asynccontextmanager
    async def _slow(self) -> AsyncIterator[None]:
        network = self._world.network
        before = network.stall_rate, network.stall_seconds
        network.stall_rate, network.stall_seconds = 0.05, self.random.choice([0.3, 3.0, 8.0])
        try:
            yield
        finally:
            network.stall_rate, network.stall_seconds = before

    def _slow_network(self) -> Any:
        return self._slow()

    # Extensions

    @asynccontextmanager
    async def _disturbed(self) -> AsyncIterator[None]:
        """Extend disks, and let something happen before that is through."""
        operators = self._world.operators
        if operators.extend(operators.larger_sizes()):
            await self._disturb()
            if self._disturbing.random() < 0.3:
                await asyncio.sleep(self._disturbing.random())
                operators.call(Call("failover", self._world.controller.group.secondary_station))
        yield

    async def _disturb(self) -> None:
        """Let something happen to a site soon."""
        rng = self._disturbing
        await asyncio.sleep(rng.random() * rng.choice([0.3, 1.0, 3.0]))
        rng.choice([self._kill_worker, self._kill_inside, self._crash_machine, self._crash_inside, self._blip])()

    @asynccontextmanager
    async def _disturbed_members(self) -> AsyncIterator[None]:
        """Change the pairs, and let something happen before that is through, and in the copy that follows."""
        rng, operators = self._disturbing, self._world.operators
        if await operators.change_members():
            if rng.random() < 0.7:
                await self._disturb()
            await asyncio.sleep(rng.random() * rng.choice([0.3, 1.0, 3.0]))
            if operators.call(Call("synchronize")) and rng.random() < 0.7:
                await self._disturb()
        yield

    def _members_disturbed(self) -> Any:
        return self._disturbed_members()

    def _extension_disturbed(self) -> Any:
        return self._disturbed()

    def _pool_full(self) -> Any:
        machine = self._site().machine
        return self._with_flag(machine, "is_pool_full", f"{machine.name} pool full")

    # Controller and arbiter

    @asynccontextmanager
    async def _down(self, machine: Machine) -> AsyncIterator[None]:
        machine.crash()
        try:
            yield
        finally:
            machine.boot()

    def _restore(self, backup: Backup) -> None:
        controller = self._world.controller
        self._left.append(controller.back_up())
        controller.restore(backup)

    @asynccontextmanager
    async def _back_to_a_backup(self) -> AsyncIterator[None]:
        """Go back to what the database is now, or to one that was left by such a return."""
        controller = self._world.controller
        if self._left and self.random.random() < 0.4:
            backup = self.random.choice(self._left)
            self._note("a database that was left is found")
        else:
            backup = controller.back_up()
            self._note("a backup of the database is taken")
        try:
            yield
        finally:
            self._restore(backup)

    def _database_restored(self) -> Any:
        return self._back_to_a_backup()

    @asynccontextmanager
    async def _forgotten_promotion(self) -> AsyncIterator[None]:
        """Promote a site whose peer is cut off, end what it runs, and go back to before that, all in a short time.

        At times nobody has acted on the promotion by then, or the database that was left comes back after a while.
        """
        world, rng = self._world, self.random
        controller = world.controller
        backup = controller.back_up()
        former, target = (
            next(node for node in world.nodes if node.site == site)
            for site in (controller.group.priority_station, controller.group.secondary_station)
        )
        self._is_forgetting = True
        try:
            async with self._blocked(self._routes_around(former.machine)):
                if world.operators.call(Call("failover", target.site)):
                    await asyncio.sleep((0.2 + rng.random()) * rng.choice([0.0, 2.0, 5.0, 10.0]))
                    worker = worker_of(target)
                    if rng.random() < 0.5:
                        target.machine.crash()
                    elif worker is not None:
                        self._note(f"kills {worker.name}")
                        worker.end()
                    await asyncio.sleep(rng.random() * 0.2)
                    self._restore(backup)
            yield
            if self._left and rng.random() < 0.3:
                self._note("a database that was left is found")
                self._restore(self._left[-1])
        finally:
            self._is_forgetting = False

    def _promotion_forgotten(self) -> Any:
        return None if self._is_forgetting else self._forgotten_promotion()

    def _controller_down(self) -> Any:
        machine = self._world.controller.machine
        return self._down(machine) if machine.is_up else None

    @asynccontextmanager
    async def _bad_arbiter(self) -> AsyncIterator[None]:
        faults = [0.0, 0.2, 0.7]
        rng = self.random
        self._world.arbiter.faults = ArbiterFaults(
            request_lost=rng.choice(faults),
            reply_lost=rng.choice(faults),
            late=rng.choice(faults),
            repeated=rng.choice(faults),
            nonsense=0.05,
        )
        try:
            yield
        finally:
            self._world.arbiter.faults = ArbiterFaults()

    def _arbiter_faults(self) -> Any:
        return self._bad_arbiter()

    # Threads, disks, files, clocks

    @asynccontextmanager
    async def _slow_machine(self, machine: Machine) -> AsyncIterator[None]:
        machine.slow_rate, machine.slow_seconds = 0.3, self.random.choice([0.2, 2.0, 12.0])
        try:
            yield
        finally:
            machine.slow_rate = 0.0

    def _slow_threads(self) -> Any:
        return self._slow_machine(self._site().machine)

    @asynccontextmanager
    async def _with_flag(self, thing: Any, name: str, text: str) -> AsyncIterator[None]:
        self._note(f"{text} begins")
        setattr(thing, name, True)
        try:
            yield
        finally:
            self._note(f"{text} ends")
            setattr(thing, name, False)

    def _disk(self) -> tuple[str, Any]:
        machine = self._site().machine
        disk = self.random.choice(list(machine.disks.values()))
        return f"{machine.name}:{disk.path}", disk

    def _disk_errors(self) -> Any:
        where, disk = self._disk()
        name = self.random.choice(["fails_reads", "fails_writes"])
        return self._with_flag(disk, name, f"{where} {name}")

    def _flush_fails(self) -> Any:
        where, disk = self._disk()
        return self._with_flag(disk, "fails_flushes", f"{where} fails flushes")

    def _full_disk(self) -> Any:
        where, disk = self._disk()
        return self._with_flag(disk, "is_full", f"{where} full")

    def _full_state(self) -> Any:
        machine = self._site().machine
        return self._with_flag(machine.files, "is_full", f"{machine.name} state files full")

    def _clock_jumps(self) -> None:
        machine = self.random.choice([*(node.machine for node in self._world.nodes), self._world.controller.machine])
        machine.set_clock(self.random.choice([0.0, 1.0, -1.0, 30.0, -30.0, 4000.0, -4000.0]) * self.random.random())
