"""A link for the stream: `python -m bench.delaying_proxy HOST PORT ONE_WAY_MS BYTES_PER_SECOND`.

Listens on a port of 127.0.0.1, which it prints as a line, and forwards each connection to HOST and PORT. What
comes in either direction goes out ONE_WAY_MS after the link's rate would have let its last bit through. At most twice
what the link holds (rate times delay), and some chunks, waits here; past that the sender is not read from.

A line `cut` on standard input breaks every connection, and new ones are closed at once until a line `restore`; each is
answered with the same line once it is done.

Threads, since the timers of event loops count in milliseconds. Ends when its standard input does, so that it does not
outlive the bench.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import sys
import threading
import time
import weakref

QUEUE_BYTES_MIN = 1024 * 1024
"""Least that waits in one direction: enough for a few chunks where the link itself holds less."""
READ_BYTES_MAX = 16 * 1024
"""Largest chunk: it is delayed as a whole, and takes an eighth of a millisecond at 1 Gbit/s."""
CONNECT_SECONDS_MAX = 5.0


class Direction:
    """What one end sends and the other end gets, later. Two threads: one takes, one gives."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_seconds: float, bytes_per_second: float):
        self._source, self._target = source, target
        self._delay_seconds, self._bytes_per_second = delay_seconds, bytes_per_second
        self._queue_bytes_max = max(QUEUE_BYTES_MIN, int(2 * delay_seconds * bytes_per_second))
        self._changed = threading.Condition()
        self._queue: collections.deque[tuple[float, bytes]] = collections.deque()
        self._queued_bytes = 0
        for work in (self._take, self._give):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        free_at = 0.0  # When the link has let through all that came so far.
        chunk = b"-"
        while chunk:
            try:
                chunk = self._source.recv(READ_BYTES_MAX)
            except OSError:
                chunk = b""  # An end, which is delayed as well.
            free_at = max(free_at, time.monotonic()) + len(chunk) / self._bytes_per_second
            with self._changed:
                self._queue.append((free_at + self._delay_seconds, chunk))
                self._queued_bytes += len(chunk)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queued_bytes < self._queue_bytes_max)

    def _give(self) -> None:
        chunk = b"-"
        while chunk:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                due, chunk = self._queue.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if chunk:
                    self._target.sendall(chunk)
                else:
                    self._target.shutdown(socket.SHUT_WR)
            except OSError:
                # The other end is gone: let this one know, and forget what it still sends.
                with contextlib.suppress(OSError):
                    self._source.shutdown(socket.SHUT_RDWR)
            with self._changed:
                self._queued_bytes -= len(chunk)
                self._changed.notify_all()


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
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.add(sock)
        Direction(near, far, *self._link)
        Direction(far, near, *self._link)


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
