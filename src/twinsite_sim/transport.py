"""A connection of a simulated network: two pipes, and the transports at their ends."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from twinsite_sim.loop import KERNEL
from twinsite_sim.machine import Machine, Process

if TYPE_CHECKING:
    from twinsite_sim.network import Network

KERNEL_BUFFER_BYTES = 256 * 1024
"""What the two kernels take of a direction before the writer has to wait."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Asyncio's own limit for pausing a writer, unless the protocol sets another."""


class Mark(Enum):
    """What ends a direction."""

    END = "end of stream"
    RESET = "reset"


class SimSocket:
    """A socket as far as a stream needs it."""

    family = socket.AF_INET

    def __init__(self, process: Process) -> None:
        self.process = process
        self.connection: Connection | None = None
        self.is_closed = False

    def close(self) -> None:
        """Give it up."""
        self.is_closed = True
        if self.connection is not None:
            self.connection.forth.push(Mark.RESET)
            self.connection = None

    def setsockopt(self, *_: Any) -> None:
        """Options change nothing here."""


class Connection:
    """Two pipes between the process that dialled and the one that accepted."""

    def __init__(self, network: Network, dialler: Process, acceptor: Process) -> None:
        self.dialler = dialler
        self.acceptor = acceptor
        self.forth = Pipe(network, self, dialler.machine, acceptor.machine)
        self.back = Pipe(network, self, acceptor.machine, dialler.machine)

    def other(self, pipe: Pipe) -> Pipe:
        """Return the other direction."""
        return self.back if pipe is self.forth else self.forth


class Pipe:
    """One direction of a connection: what is on its way, and what has arrived and was not read."""

    def __init__(self, network: Network, connection: Connection, source: Machine, target: Machine) -> None:
        self._network = network
        self._connection = connection
        self._source = source
        self._target = target
        self._travelling: deque[tuple[float, bytes | Mark]] = deque()
        self._last_arrival = 0.0
        self._is_due = False
        self.reader: SimTransport | None = None
        self.writer: SimTransport | None = None
        self.is_unread = False
        """The reader is gone: what arrives is answered with a reset."""
        self.inbox: deque[bytes] = deque()
        self.mark: Mark | None = None

    def push(self, item: bytes | Mark) -> None:
        """Send something."""
        now = self._network.loop.time()
        when = self._last_arrival = max(self._last_arrival, now + self._network.latency())
        self._travelling.append((when, item))
        if not self._is_due:
            self._arm(when)

    def cut(self, rng: random.Random) -> None:
        """Lose what is on its way, from some point on."""
        for _ in range(rng.randint(0, len(self._travelling))):
            self._travelling.pop()

    def purge(self) -> None:
        """Lose everything that was not read."""
        self._travelling.clear()
        self.inbox.clear()

    def _arm(self, when: float) -> None:
        self._is_due = True
        self._network.loop.call_at(when, self._arrive, context=KERNEL)

    def _arrive(self) -> None:
        self._is_due = False
        network = self._network
        if network.is_blocked(self._source, self._target):
            self._is_due = True
            network.when_open(self._source, self._target, self._arrive)
            return
        now = network.loop.time()
        travelling = self._travelling
        while travelling and travelling[0][0] <= now:
            self._take(travelling.popleft()[1])
        if travelling and not self._is_due:
            self._arm(travelling[0][0])

    def _take(self, item: bytes | Mark) -> None:
        if self.is_unread:
            if item is not Mark.RESET and self._target.is_up:
                self._connection.other(self).push(Mark.RESET)
            return
        if isinstance(item, bytes):
            self.inbox.append(item)
        else:
            self.mark = item
            if item is Mark.RESET and self._network.random.random() < 0.5:
                self.inbox.clear()
        if self.reader is not None:
            self.reader.readable()


class SimTransport(asyncio.Transport):
    """One end of a connection, with asyncio's manners."""

    def __init__(
        self, network: Network, connection: Connection, process: Process, protocol: Any, outgoing: Pipe, incoming: Pipe
    ) -> None:
        super().__init__()
        self.process = process
        self.connection = connection
        self._network = network
        self._protocol = protocol
        self._outgoing = outgoing
        self._incoming = incoming
        self._is_started = False
        self._is_reading = True
        self._is_closing = False
        self._is_over = False
        self._is_due = False
        self._has_ended_writing = False
        self._unread_bytes = 0  # Written here and not yet read there.
        self._high, self._low = WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES // 4
        self._is_writing_paused = False
        incoming.reader = self
        outgoing.writer = self
        process.transports[self] = None

    def start(self, on_started: Callable[[], object]) -> None:
        """Tell the protocol that it is connected, then let it read."""

        def begin() -> None:
            self._protocol.connection_made(self)
            self._is_started = True
            self.readable()
            on_started()

        self.process.call(begin)

    # Reading

    def readable(self) -> None:
        """Something has arrived, or may be read now."""
        if self._is_due or not self._is_started or self._is_over:
            return
        if self._is_reading and not self._is_closing and (self._incoming.inbox or self._incoming.mark):
            self._is_due = True
            self.process.call(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False
        incoming = self._incoming
        if self._is_over:
            return
        if incoming.inbox and self._is_reading and not self._is_closing:
            self._deliver_data()
        elif not incoming.inbox and incoming.mark is Mark.RESET and self._is_reading:
            self._lose(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        elif not incoming.inbox and incoming.mark is Mark.END and self._is_reading and not self._is_closing:
            incoming.mark = None
            if not self._protocol.eof_received():
                self.close()
        self.readable()

    def _deliver_data(self) -> None:
        inbox = self._incoming.inbox
        data = b"".join(inbox) if len(inbox) > 1 else inbox[0]
        inbox.clear()
        count = len(data)
        rng = self._network.random
        if count > 1 and rng.random() < self._network.chunk_rate:
            count = rng.randint(1, count)
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            buffer = memoryview(self._protocol.get_buffer(-1))
            assert buffer, "a protocol gave no room"
            count = min(count, len(buffer))
            buffer[:count] = data[:count]
            buffer.release()
        if count < len(data):
            inbox.append(data[count:])
        if self._incoming.writer is not None:
            self._incoming.writer.was_read(count)
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            self._protocol.buffer_updated(count)
        else:
            self._protocol.data_received(data[:count])

    def pause_reading(self) -> None:
        """Deliver nothing for now."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self._is_reading = True
        self.readable()

    def has_hung_up(self, *, has_said_goodbye: bool) -> bool:
        """Say whether the other end is gone, which nobody hears of who does not read. No host here says goodbye."""
        assert not has_said_goodbye
        return self._incoming.mark is not None

    def is_reading(self) -> bool:
        """Say whether data is delivered."""
        return self._is_reading and not self._is_closing

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the data."""
        if self._is_closing or self._has_ended_writing or not len(data):
            return
        if self._incoming.mark is Mark.RESET:  # The kernel says so to who writes, read or not.
            self._lose(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
            return
        self._unread_bytes += len(data)
        self._outgoing.push(bytes(data))
        if not self._is_writing_paused and self.get_write_buffer_size() > self._high:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def was_read(self, count: int) -> None:
        """The other end has read so much."""
        self._unread_bytes -= count
        if self._is_writing_paused and self.get_write_buffer_size() <= self._low:
            self._is_writing_paused = False
            self.process.call(self._resume_writing)

    def _resume_writing(self) -> None:
        if not self._is_over:
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        """Return what the kernels do not take."""
        return max(0, self._unread_bytes - KERNEL_BUFFER_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause."""
        self._high = WRITE_BUFFER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        """A direction can be ended alone."""
        return True

    def write_eof(self) -> None:
        """End this direction."""
        if not self._has_ended_writing and not self._is_closing:
            self._has_ended_writing = True
            self._outgoing.push(Mark.END)

    # Ending

    def close(self) -> None:
        """Close; unread data resets the connection."""
        if self._is_closing:
            return
        if self._incoming.inbox:
            self._outgoing.push(Mark.RESET)
        elif not self._has_ended_writing:
            self._outgoing.push(Mark.END)
        self._lose(None)

    def abort(self) -> None:
        """Reset the connection; what is on its way may be lost."""
        if self._is_over:
            return
        self._outgoing.cut(self._network.random)
        self._outgoing.push(Mark.RESET)
        self._lose(None)

    def fence(self) -> None:
        """Abort so that nothing that was sent is read any more: the reset arrives at once, whatever the link does.

        A host may write the same sectors anew over another connection; no NBD server can keep what it had sent over
        an older one from taking effect after that, so a host must not let it come to that.
        """
        self._outgoing.purge()
        self._outgoing.mark = Mark.RESET
        if self._outgoing.reader is not None:
            self._outgoing.reader.readable()
        self._lose(None)

    def is_closing(self) -> bool:
        """Say whether the end has begun."""
        return self._is_closing

    def orphan(self, *, is_heard: bool) -> None:
        """The process has ended: the kernel closes, or the machine has forgotten."""
        self._is_over = self._is_closing = True
        self._leave()
        if is_heard:
            self._outgoing.push(Mark.RESET if self._incoming.inbox else Mark.END)

    def _lose(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = self._is_closing = True
        self._leave()
        self.process.transports.pop(self, None)
        self.process.call(self._protocol.connection_lost, error)

    def _leave(self) -> None:
        self._incoming.is_unread = True
        self._incoming.reader = None
        if self._outgoing.is_unread or self._outgoing.reader is None:
            self._network.connections.pop(self.connection, None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """There is a socket to set options on."""
        return SimSocket(self.process) if name == "socket" else default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change the protocol."""
        self._protocol = protocol
