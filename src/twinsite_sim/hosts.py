"""Hosts: each has one or more threads of changes across the disks of the group, each change waiting for the one before.

A host connects where the controller says that the group is primary, and goes there anew when that changes; some are
slow to leave the old site.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from twinsite.core.limits import BLOCK_BYTES, SECTOR_BYTES
from twinsite.core.nbd.constants import Command
from twinsite_sim.controller import Controller, nbd_port
from twinsite_sim.ledger import Change, Ledger, content_of
from twinsite_sim.loop import WorldFailure
from twinsite_sim.machine import Machine, Process
from twinsite_sim.nbd_client import FUA, NO_HOLE, NbdClient

LENGTHS = [512, 512, 512, 4096, 4096, 4096, 20480, BLOCK_BYTES, BLOCK_BYTES + 512, 3 * BLOCK_BYTES]
"""Bytes of a change."""
BUSY_ANSWERS_MAX = 1000
"""After so many answers hosts ask less often, so that no world takes long."""
TIRED_SECONDS = 1.0
PROBE_SECONDS_MAX = 5.0
"""How long a host's kernel takes to find that the other machine has forgotten the connection."""


RESCAN_SECONDS_MAX = 3.0
"""How long a host takes to use what its disk has grown by."""


class CutOff(Exception):
    """The connection was lost before the answer."""


@dataclass
class Habits:
    """How a writer behaves."""

    pause_seconds: float
    depth: int
    flush_rate: float
    fua_rate: float
    zero_rate: float
    read_rate: float
    leave_seconds: float
    """How long it takes to go where the group has moved to."""


class Attachment:
    """A host's attachment to one volume: a connection where the group is primary, made again when it is lost."""

    def __init__(self, hosts: Hosts, index: int, habits: Habits) -> None:
        self.index = index
        self.client: NbdClient | None = None
        self.site = ""
        self._hosts = hosts
        self._habits = habits
        self._waiting: dict[asyncio.Future[tuple[int, bytes]], None] = {}
        self.is_over = False
        """The volume has left the group, and its hosts have stopped before."""
        self.least_bytes = 0
        """How large any host had seen the volume when this one began to connect."""
        self._known_bytes = 0
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()

    async def keep(self) -> None:
        """Stay connected until the volume leaves the group."""
        hosts = self._hosts
        while not self.is_over:
            self.site = hosts.controller.group.priority_station
            address = hosts.machines[self.site].address
            self._lost.clear()
            self.least_bytes = hosts.ledger.volumes[self.index].sector_count * SECTOR_BYTES
            client = NbdClient(f"{self.site}-{self.index}", self._came_up, self._went_down)
            try:
                await hosts.loop.create_connection(lambda made=client: made, address, nbd_port(self.index))  # type: ignore[misc]
            except OSError:
                await asyncio.sleep(0.2 + hosts.random.random() * 0.5)
                continue
            watch = asyncio.ensure_future(self._watch_moves(client))
            await self._lost.wait()
            watch.cancel()
            await asyncio.sleep(hosts.random.random() * 0.3)

    async def _watch_moves(self, client: NbdClient) -> None:
        is_leaving = False
        while True:
            await asyncio.sleep(1.0)
            shown_bytes = self._hosts.controller.shown_bytes(self.index)
            if shown_bytes > max(client.size_bytes, self._known_bytes):
                # Somebody tells the host to look at the size again.
                self._known_bytes = shown_bytes
                await asyncio.sleep(self._hosts.random.random() * RESCAN_SECONDS_MAX)
                if self.client is client:
                    self.client = None  # Nothing more is asked, and what was asked is waited for.
                    self._ready.clear()
                is_leaving = True
            if is_leaving and not self._waiting:
                client.close()
                return
            if self._hosts.controller.group.priority_station != self.site:
                await asyncio.sleep(self._habits.leave_seconds)
                client.close()
                return
            if not client.server_process.is_alive:
                # Its machine has gone without a word, or the word is lost: the kernel's probes find that out.
                await asyncio.sleep(self._hosts.random.random() * PROBE_SECONDS_MAX)
                client.close()
                return

    async def ready(self) -> NbdClient:
        """Wait for a connection. Raises `CutOff` when there will be none any more."""
        while self.client is None:
            await self._ready.wait()
            if self.is_over:
                raise CutOff
        return self.client

    def end(self) -> None:
        """Stop for good."""
        self.is_over = True
        client, self.client = self.client, None
        if client is not None:
            client.close()
        self._cut_off()
        self._ready.set()

    async def ask(
        self, client: NbdClient, command: Command, offset: int, length: int, *, data: bytes = b"", flags: int = 0
    ) -> tuple[int, bytes]:
        """Send a request and return (errno, data). Raises `CutOff`."""
        if client is not self.client:
            raise CutOff
        future: asyncio.Future[tuple[int, bytes]] = self._hosts.loop.create_future()

        def answer(error: int, read: bytes) -> None:
            if not future.done():
                future.set_result((error, read))

        client.ask(command, offset, length, answer, data=data, flags=flags)
        self._waiting[future] = None
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def _came_up(self, client: NbdClient) -> None:
        if self.is_over:
            client.close()
            return
        self._hosts.on_attached(client, self)
        self.client = client
        self._ready.set()

    def _went_down(self, client: NbdClient) -> None:
        if self.client is client:
            self.client = None
            self._ready.clear()
        self._cut_off()

    def _cut_off(self) -> None:
        self._lost.set()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(CutOff())


class Hosts:
    """All hosts of a world, as one process on a machine of its own."""

    def __init__(
        self,
        machine: Machine,
        machines: dict[str, Machine],
        controller: Controller,
        ledger: Ledger,
        seed: str,
    ) -> None:
        self.machine = machine
        self.machines = machines
        self.loop = machine.loop
        self.controller = controller
        self.ledger = ledger
        self.random = random.Random(f"{seed} hosts")
        self.process = Process(machine, "hosts")
        self.is_pausing = False
        self.busy = 0
        self.answered = 0
        self.failed = 0
        self._attachments: list[tuple[Habits, list[Attachment]]] = []
        self._go_on = asyncio.Event()
        self._go_on.set()
        self.on_attached: Callable[[NbdClient, Attachment], None] = lambda client, attachment: None
        """Called when a volume is shown to a host, before that does anything."""
        self.can_check_reads: Callable[[str], bool] = lambda site: True
        self.on_done: Callable[[Change], None] = lambda change: None
        """Called when a change was answered, before anything else."""
        self.on_served: Callable[[Process, float], None] = lambda process, asked_at: None
        """Called when a process has done what a host had asked at that time."""

    def start(self, habits: list[Habits]) -> None:
        """Let one writer begin for each of the habits."""
        for one in habits:
            self.process.spawn(lambda one=one: self._live(one))  # type: ignore[misc]

    def pause(self, *, on: bool) -> None:
        """Send nothing new for a while."""
        self.is_pausing = on
        if on:
            self._go_on.clear()
        else:
            self._go_on.set()

    def attach(self, index: int) -> None:
        """Let every host use a volume that has come into the group."""
        for habits, attachments in self._attachments:
            attachment = Attachment(self, index, habits)
            attachments.append(attachment)
            self.process.spawn(attachment.keep)

    def detach(self, index: int) -> None:
        """Let no host use a volume any more."""
        for _, attachments in self._attachments:
            for attachment in [one for one in attachments if one.index == index]:
                attachments.remove(attachment)
                attachment.end()

    async def _live(self, habits: Habits) -> None:
        attachments = [Attachment(self, index, habits) for index in self.ledger.volumes]
        self._attachments.append((habits, attachments))
        for attachment in attachments:
            self.loop.create_task(attachment.keep())
        for _ in range(habits.depth):
            self.loop.create_task(self._work(habits, attachments))

    async def _work(self, habits: Habits, attachments: list[Attachment]) -> None:
        """One thing after the other, each waiting for the one before: what a database does with log and data."""
        rng = self.random
        while True:
            await self._go_on.wait()
            pause_seconds = habits.pause_seconds if self.answered < BUSY_ANSWERS_MAX else TIRED_SECONDS
            await asyncio.sleep(rng.expovariate(1.0) * pause_seconds)
            attachment = rng.choice(attachments)
            try:
                client = await attachment.ready()
            except CutOff:
                continue
            if self.is_pausing:
                continue
            self.busy += 1
            try:
                chance = rng.random()
                if chance < habits.flush_rate:
                    await self._flush(client, attachment)
                elif chance < habits.flush_rate + habits.read_rate:
                    await self._read(client, attachment)
                else:
                    await self._change(client, attachment, habits)
            except CutOff:
                pass
            finally:
                self.busy -= 1

    async def _change(self, client: NbdClient, attachment: Attachment, habits: Habits) -> None:
        rng, ledger = self.random, self.ledger
        sectors = self._free_range(attachment.index, client.size_bytes)
        if sectors is None:
            await asyncio.sleep(0.05)
            return
        is_zero = rng.random() < habits.zero_rate
        is_fua = rng.random() < habits.fua_rate
        change = ledger.issue(attachment.index, sectors, self.loop.time(), client.server_process, is_zero=is_zero)
        offset, length = sectors.start * SECTOR_BYTES, len(sectors) * SECTOR_BYTES
        flags = FUA if is_fua else 0
        command, data = Command.WRITE, content_of(change)
        if is_zero:
            command, data = rng.choice([Command.TRIM, Command.WRITE_ZEROES]), b""
            if command is Command.WRITE_ZEROES and rng.random() < 0.5:
                flags |= NO_HOLE
        try:
            error, _ = await attachment.ask(client, command, offset, length, data=data, flags=flags)
        except CutOff:
            ledger.cut_off(change)
            raise
        if error:
            self.failed += 1
            self.machine.trace.add("hosts", f"{change} fails with errno {error}")
            ledger.failed(change)
        else:
            self.answered += 1
            ledger.done(change, self.loop.time(), is_fua=is_fua)
            self.on_done(change)
            self.on_served(change.place, change.issued_at)

    async def _flush(self, client: NbdClient, attachment: Attachment) -> None:
        issued_at = self.loop.time()
        error, _ = await attachment.ask(client, Command.FLUSH, 0, 0)
        if not error:
            self.ledger.flushed(attachment.index, issued_at)
            self.answered += 1
            self.on_served(client.server_process, issued_at)

    async def _read(self, client: NbdClient, attachment: Attachment) -> None:
        sectors = self._free_range(attachment.index, client.size_bytes)
        if sectors is None:
            return
        record = self.ledger.volumes[attachment.index]
        before = [len(record.history[sector]) for sector in sectors]
        offset, length = sectors.start * SECTOR_BYTES, len(sectors) * SECTOR_BYTES
        asked_at = self.loop.time()
        error, data = await attachment.ask(client, Command.READ, offset, length)
        if not error:
            self.on_served(client.server_process, asked_at)
        site = client.server_process.machine.name
        if error or not self.can_check_reads(site):
            return
        if before != [len(record.history[sector]) for sector in sectors]:
            return  # Something was written meanwhile.
        for place, sector in enumerate(sectors):
            word = int.from_bytes(data[place * SECTOR_BYTES : place * SECTOR_BYTES + 8], "little")
            if not self.ledger.may_show(attachment.index, sector, word):
                raise WorldFailure(f"a host reads {word:#x} from sector {sector} of volume {attachment.index}")
            self.ledger.was_read(attachment.index, sector, word)

    def _free_range(self, volume: int, size_bytes: int) -> range | None:
        count = size_bytes // SECTOR_BYTES
        for _ in range(4):
            length = min(self.random.choice(LENGTHS) // SECTOR_BYTES, count)
            start = self.random.randrange(count - length + 1)
            if self.random.random() < 0.5:
                start = min(start // 8 * 8, count - length)
            if self.ledger.is_free(volume, range(start, start + length)):
                return range(start, start + length)
        return None


def random_habits(rng: random.Random) -> list[Habits]:
    """Return the hosts of a world: a writer that depends on itself at least, and perhaps one that only reads."""
    writers = [
        Habits(
            pause_seconds=rng.choice([0.02, 0.1, 0.4]),
            depth=rng.choice([1, 1, 2, 6]),
            flush_rate=rng.choice([0.02, 0.1, 0.3]),
            fua_rate=rng.choice([0.0, 0.05, 0.3]),
            zero_rate=rng.choice([0.0, 0.1, 0.3]),
            read_rate=rng.choice([0.0, 0.1]),
            leave_seconds=rng.choice([0.0, 0.5, 20.0]),
        )
        for _ in range(rng.choice([1, 2, 2, 3]))
    ]
    if rng.random() < 0.5:
        return writers
    reader = Habits(
        pause_seconds=0.3,
        depth=1,
        flush_rate=0.0,
        fua_rate=0.0,
        zero_rate=0.0,
        read_rate=1.0,
        leave_seconds=rng.choice([0.5, 20.0]),
    )
    return [*writers, reader]
