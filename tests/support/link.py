"""A TCP link that a test can cut, stall and slow down, each direction for itself."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from enum import Enum

STALL_SECONDS_MAX = 180.0
"""Longest stall; a test that needs it has failed."""


class Way(Enum):
    """A direction of the link."""

    OUT = "from who connects to who listens"
    BACK = "from who listens to who connects"


class Link:
    """Forwards connections from `endpoint` to `target`, which may change; what is under way when cut is lost."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.is_up = True
        self.delay_seconds = {Way.OUT: 0.0, Way.BACK: 0.0}
        self._flows = {Way.OUT: threading.Event(), Way.BACK: threading.Event()}
        for event in self._flows.values():
            event.set()
        self._bytes_left: dict[Way, int] = {}  # Until a way stalls by itself.
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self, *, stay_down: bool = False) -> None:
        """Break every connection; new ones are refused while it stays down."""
        self.is_up = not stay_down
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def stall(self, *ways: Way) -> None:
        """Let nothing through in these directions; the connections stay."""
        for way in ways or Way:
            self._flows[way].clear()

    def stall_after(self, way: Way, byte_count: int) -> None:
        """Let about so many bytes more through in a direction, and then nothing."""
        self._bytes_left[way] = byte_count

    def flow(self) -> None:
        """Let everything through again, what was stalled included."""
        self.is_up = True
        with self._lock:
            self._bytes_left.clear()
            for event in self._flows.values():
                event.set()

    def close(self) -> None:
        """End everything."""
        self.flow()
        self.cut(stay_down=True)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            if not self.is_up:
                raise ConnectionRefusedError
            far = socket.create_connection((host, int(port)), 5.0)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            self._sockets |= {near, far}
        back = threading.Thread(target=self._pump, args=(far, near, Way.BACK), daemon=True)
        back.start()
        self._pump(near, far, Way.OUT)
        back.join()
        with self._lock:
            self._sockets -= {near, far}
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    if way in self._bytes_left:
                        self._bytes_left[way] -= len(data)
                        if self._bytes_left[way] <= 0:
                            self._flows[way].clear()
                self._flows[way].wait(STALL_SECONDS_MAX)
                if self.delay_seconds[way]:
                    time.sleep(self.delay_seconds[way])
                sink.sendall(data)
        # An end of sending is passed on alone: what goes the other way may still arrive.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
