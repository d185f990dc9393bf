"""A link for the stream: `python -m bench.delaying_proxy HOST PORT ONE_WAY_MS BYTES_PER_SECOND`.

Listens on a port of 127.0.0.1, which it prints as a line, and forwards each connection to HOST and PORT. What
comes in either direction goes out ONE_WAY_MS after the link's rate would have let its last bit through. At most twice
what the link holds (rate times delay), and some pieces, waits here; past that the sender is not read from.

It looks at both ends once a tick, so that it costs little however small what is sent is, and leaves the processor to
what is measured. What came is dated half a tick back and goes out up to half a tick early: on average that is right.

A line `cut` on standard input breaks every connection, and new ones are closed at once until a line `restore`; each is
answered with the same line once it is done. Ends when its standard input does, so that it does not outlive the bench.
"""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import sys
import threading
import time
import weakref

TICK_SECONDS = 100e-6
"""How long it sleeps. A tick is longer, since waking takes its time."""
QUEUE_BYTES_MIN = 1024 * 1024
"""Least that waits in one direction: enough for a few pieces where the link itself holds less."""
TICK_SECONDS_MAX = 1e-3
"""A longer one says that the machine was busy, and nothing about the next ones."""
READ_BYTES_MAX = 256 * 1024
PIECE_BYTES_MAX = 8 * 1024
"""What is delayed as a whole; it takes a sixteenth of a millisecond at 1 Gbit/s."""
CONNECT_SECONDS_MAX = 5.0


class Direction:
    """What one end sends and the other end gets, later. Raises `OSError` when an end is gone."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_seconds: float, bytes_per_second: float):
        self._source, self._target = source, target
        self._delay_seconds, self._bytes_per_second = delay_seconds, bytes_per_second
        self._queue_bytes_max = max(QUEUE_BYTES_MIN, int(2 * delay_seconds * bytes_per_second))
        self._free_at = 0.0  # When the link has let through all that came so far.
        self._queue: collections.deque[tuple[float, memoryview]] = collections.deque()
        self._queued_bytes = 0
        self._has_ended = False

    @property
    def is_idle(self) -> bool:
        """Say whether nothing waits here."""
        return not self._queue

    @property
    def source(self) -> socket.socket | None:
        """Return the end that sends, or None when it has ended."""
        return None if self._has_ended else self._source

    def take(self, came_at: float) -> None:
        """Read what has come, and give each piece the time when it is due."""
        if self._has_ended or self._queued_bytes >= self._queue_bytes_max:
            return
        try:
            data = memoryview(self._source.recv(READ_BYTES_MAX))
        except BlockingIOError:
            return
        self._free_at = max(self._free_at, came_at)
        for start in range(0, len(data), PIECE_BYTES_MAX):
            piece = data[start : start + PIECE_BYTES_MAX]
            self._free_at += len(piece) / self._bytes_per_second
            self._queue.append((self._free_at + self._delay_seconds, piece))
        if not data:
            self._has_ended = True
            self._queue.append((self._free_at + self._delay_seconds, data))
        self._queued_bytes += len(data)

    def give(self, due_at: float) -> None:
        """Pass on what is due until then."""
        pieces = []
        while self._queue and self._queue[0][0] <= due_at:
            pieces.append(self._queue.popleft())
        data = b"".join(piece for _, piece in pieces)
        sent = 0
        if data:
            with contextlib.suppress(BlockingIOError):
                sent = self._target.send(data)
            self._queued_bytes -= sent
        is_end = bool(pieces) and not pieces[-1][1]
        if sent < len(data):
            if is_end:
                self._queue.appendleft(pieces[-1])
            self._queue.appendleft((due_at, memoryview(data)[sent:]))
        elif is_end:
            self._target.shutdown(socket.SHUT_WR)


class Proxy:
    """Takes connections for `target`, and lays a direction each way for every one of them."""

    def __init__(self, target: tuple[str, int], delay_seconds: float, bytes_per_second: float):
        self._target, self._link = target, (delay_seconds, bytes_per_second)
        self._is_up = True
        self._changing = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._changing:
            self._is_up = False
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Take connections again."""
        with self._changing:
            self._is_up = True

    def serve(self, listener: socket.socket) -> None:
        """Take connections for ever."""
        while True:
            near, _ = listener.accept()
            with self._changing:
                if self._is_up:
                    self._connect(near)
                else:
                    near.close()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, CONNECT_SECONDS_MAX)
        except OSError:
            near.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.add(sock)
        directions = Direction(near, far, *self._link), Direction(far, near, *self._link)
        threading.Thread(target=_carry, args=(near, far, directions), daemon=True).start()


def _carry(near: socket.socket, far: socket.socket, directions: tuple[Direction, Direction]) -> None:
    """Forward one connection until both ends have ended, or one is gone."""
    tick_seconds = TICK_SECONDS  # As they have been of late.
    now = time.monotonic()
    with near, far, contextlib.suppress(OSError):
        while True:
            if all(direction.is_idle for direction in directions):
                sources = [direction.source for direction in directions if direction.source is not None]
                if not sources:
                    return
                select.select(sources, [], [])
                now = came_at = time.monotonic()
            else:
                time.sleep(TICK_SECONDS)
                now, before = time.monotonic(), now
                tick_seconds += (min(now - before, TICK_SECONDS_MAX) - tick_seconds) / 16
                came_at = now - tick_seconds / 2
            for direction in directions:
                direction.take(came_at)
                direction.give(now + tick_seconds / 2)


def main() -> int:
    """Serve and obey until standard input ends; return the exit status."""
    host, port, one_way_ms, bytes_per_second = sys.argv[1:]
    proxy = Proxy((host, int(port)), float(one_way_ms) / 1000, float(bytes_per_second))
    orders = {"cut": proxy.cut, "restore": proxy.restore}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        for line in sys.stdin:
            orders[line.strip()]()
            print(line.strip(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
