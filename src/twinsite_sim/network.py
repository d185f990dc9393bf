"""A network of byte streams between simulated machines: delay, chunks, stalls, one-way partitions, resets.

A connection is two pipes. What a pipe carries arrives in order and not before its time; while its direction is
blocked it waits, as TCP's retransmission would have it wait. A process that ends leaves an end of stream or a reset to
its peers, a machine that crashes leaves nothing, and answers with a reset once it is up again.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

from twinsite_sim.loop import KERNEL, SimLoop
from twinsite_sim.machine import Machine, Process, current_process
from twinsite_sim.trace import Trace
from twinsite_sim.transport import Connection, Mark, SimSocket, SimTransport

SYN_SECONDS = 1.0
"""How often an unanswered attempt to connect is repeated."""
CONNECT_SECONDS_MAX = 60.0
"""After so long it is given up."""

Address = tuple[str, int]
Route = tuple[str, str]


class Network:
    """All links, listeners and connections of a world."""

    def __init__(self, loop: SimLoop, trace: Trace, seed: str) -> None:
        self.loop = loop
        self.trace = trace
        self.random = random.Random(f"{seed} network")
        self.machines: dict[str, Machine] = {}
        self.listeners: dict[Address, SimServer] = {}
        self.connections: dict[Connection, None] = {}
        self.latency_seconds = 0.0005
        self.jitter_seconds = 0.0005
        self.stall_rate = 0.0
        self.stall_seconds = 1.0
        self.chunk_rate = 0.1
        """How often a receive brings less than has arrived."""
        self._blocked: dict[Route, int] = {}
        self._waiting: dict[Route, list[Callable[[], None]]] = {}

    def add(self, machine: Machine) -> None:
        """Plug in a machine."""
        self.machines[machine.address] = machine

    # Links

    def block(self, source: Machine, target: Machine) -> None:
        """From now on nothing gets from one machine to the other. Calls are counted."""
        route = source.name, target.name
        self._blocked[route] = self._blocked.get(route, 0) + 1

    def unblock(self, source: Machine, target: Machine) -> None:
        """Undo one `block`; what waited goes on its way."""
        route = source.name, target.name
        self._blocked[route] -= 1
        if self._blocked[route] == 0:
            for go_on in self._waiting.pop(route, []):
                delay = self.latency() + self.random.random() * 0.5  # TCP tries again at its own times.
                self.loop.call_later(delay, go_on, context=KERNEL)

    def is_blocked(self, source: Machine, target: Machine) -> bool:
        """Say whether nothing gets through in this direction."""
        return self._blocked.get((source.name, target.name), 0) > 0

    def when_open(self, source: Machine, target: Machine, go_on: Callable[[], None]) -> None:
        """Call `go_on` some time after the direction is open again."""
        self._waiting.setdefault((source.name, target.name), []).append(go_on)

    def latency(self) -> float:
        """Return how long the next thing is on its way."""
        delay = self.latency_seconds + self.random.expovariate(1.0) * self.jitter_seconds
        if self.stall_rate and self.random.random() < self.stall_rate:
            delay += self.random.random() * self.stall_seconds
        return delay

    def carry(self, source: Machine, target: Machine, deliver: Callable[[], None], seconds_max: float) -> None:
        """Bring a small message over, again and again while it is lost; forget it after `seconds_max`."""
        ends_at = self.loop.time() + seconds_max

        def attempt() -> None:
            if not self.is_blocked(source, target) and target.is_up:
                deliver()
            elif self.loop.time() < ends_at:
                self.loop.call_later(SYN_SECONDS, attempt, context=KERNEL)

        self.loop.call_later(self.latency(), attempt, context=KERNEL)

    # Sockets

    def make_socket(self, *_: Any) -> SimSocket:
        """Return a socket of the running process."""
        return SimSocket(current_process())

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> SimServer:
        """Listen for the running process. Raises `OSError` when the port is taken."""
        process = current_process()
        port = port or process.machine.take_port()
        address = host, port
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        if self.machines.get(host) is not process.machine:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        server = SimServer(self, process, factory, address)
        self.listeners[address] = server
        process.servers.append(server)
        return server

    async def connect(self, sock: SimSocket, address: Address) -> None:
        """Connect a socket. Raises `OSError`."""
        process = current_process()
        target = self.machines.get(address[0])
        if target is None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        answer: asyncio.Future[None] = self.loop.create_future()
        source = process.machine

        def refused() -> None:
            if not answer.done():
                answer.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))

        def accepted(connection: Connection) -> None:
            if answer.done() or not process.is_alive or sock.is_closed:
                connection.back.push(Mark.RESET)
                return
            sock.connection = connection
            answer.set_result(None)

        def at_target() -> None:
            server = self.listeners.get(address)
            if server is None or not server.process.is_alive:
                self.carry(target, source, lambda: process.call(refused), CONNECT_SECONDS_MAX)
                return
            connection = Connection(self, process, server.process)
            self.connections[connection] = None
            server.accept(connection)
            self.carry(target, source, lambda: process.call(accepted, connection), CONNECT_SECONDS_MAX)

        self.carry(source, target, at_target, CONNECT_SECONDS_MAX)
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await answer
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out") from None

    async def attach(self, sock: SimSocket, factory: Callable[[], Any]) -> tuple[SimTransport, Any]:
        """Give a connected socket its protocol."""
        connection = sock.connection
        assert connection is not None
        sock.connection = None  # The transport owns it now.
        protocol = factory()
        transport = SimTransport(self, connection, sock.process, protocol, connection.forth, connection.back)
        ready: asyncio.Future[None] = self.loop.create_future()

        def started() -> None:
            if not ready.done():  # Nobody waits for it any more.
                ready.set_result(None)

        transport.start(started)
        await ready
        return transport, protocol

    def break_connection(self, connection: Connection) -> None:
        """Something on the way resets a connection: both ends hear of it, each in its time."""
        for pipe in (connection.forth, connection.back):
            pipe.cut(self.random)
            pipe.push(Mark.RESET)


class SimServer:
    """A listener."""

    def __init__(self, network: Network, process: Process, factory: Callable[[], Any], address: Address) -> None:
        self.process = process
        self._network = network
        self._factory = factory
        self._address = address
        self._is_closed = False

    @property
    def sockets(self) -> list[SimServer]:
        """Itself, standing for its socket."""
        return [self]

    def getsockname(self) -> Address:
        """Return host and port."""
        return self._address

    def accept(self, connection: Connection) -> None:
        """A peer has connected."""
        self.process.call(self._accept, connection)

    def _accept(self, connection: Connection) -> None:
        if self._is_closed:
            connection.back.push(Mark.RESET)
            return
        protocol = self._factory()
        transport = SimTransport(self._network, connection, self.process, protocol, connection.back, connection.forth)
        transport.start(lambda: None)

    def close(self) -> None:
        """Listen no more."""
        self._is_closed = True
        if self._network.listeners.get(self._address) is self:
            del self._network.listeners[self._address]

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""
