"""A host that never stops writing: a log of numbered, checksummed records, and random blocks next to it.

It is as careful as a database: it goes on to the next record only after the disk has acknowledged the last one, and
when its connection drops it connects to the same address again and repeats the request that was in flight.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import threading
import time
from collections.abc import Callable

import xxhash

from twinsite.core.limits import MIB
from twinsite.errors import StorageFault, TwinsiteError
from twinsite.nbd_client import ConnectionLost, NbdClient

RECORD_BYTES = 4096
LOG_BYTES = 256 * MIB
"""The log lies at the beginning of the disk; it ends the writer when it is full."""
SCRATCH_BYTES = 64 * MIB
"""Behind the log: where random blocks are rewritten."""
SCRATCH_EVERY_RECORDS = 8
FLUSH_EVERY_RECORDS = 64
PAUSE_SECONDS = 0.002
"""Between two records, so that the writer leaves the processor to the copy that it is to be seen beside."""
RECONNECT_SECONDS_MAX = 30.0
"""A disk that cannot be reached for longer ends the writer."""
RECONNECT_PAUSE_SECONDS = 0.02

_HEADER = struct.Struct("!8sQQ")
_MAGIC = b"TWINREC1"


def make_record(number: int) -> bytes:
    """Return record `number` (from 1): magic, number, checksum of the rest, and a payload that nobody can guess."""
    payload = os.urandom(RECORD_BYTES - _HEADER.size)
    return _HEADER.pack(_MAGIC, number, _checksum(number, payload)) + payload


def record_number(data: bytes) -> int | None:
    """Return the number of the record that `data` is, None when it is none or damaged."""
    if len(data) != RECORD_BYTES:
        return None
    magic, number, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC or checksum != _checksum(number, data[_HEADER.size :]):
        return None
    return int(number)


def record_offset(number: int) -> int:
    """Return the byte offset of record `number` on its disk."""
    return (number - 1) * RECORD_BYTES


def _checksum(number: int, payload: bytes) -> int:
    return xxhash.xxh3_64_intdigest(payload, seed=number)


class LiveWriter:
    """Writes from a thread of its own between `start` and `stop`. `acknowledged` counts the records on the disk."""

    def __init__(self, uri: str, seed: int) -> None:
        """Write to the disk at `uri`; `seed` chooses the random blocks."""
        self.uri = uri
        self.acknowledged = 0
        self.reconnects = 0
        self.longest_wait_seconds = 0.0
        self._chooser = random.Random(seed)
        self._is_abandoned = False
        self._stopping = threading.Event()
        self._failure: TwinsiteError | None = None
        self._disk: NbdClient | None = None
        self._thread = threading.Thread(target=self._run, name="live-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, seconds_max: float = RECONNECT_SECONDS_MAX) -> None:
        """Finish the record at hand, flush and disconnect. Raises what ended the writer before, if anything did."""
        self._stopping.set()
        self._thread.join(seconds_max)
        if self._thread.is_alive():
            raise StorageFault("write", self.uri, f"the writer's request was not answered in {seconds_max:.0f} seconds")
        self.check()

    def abandon(self) -> None:
        """End the writer without waiting for it or caring how it ends."""
        self._is_abandoned = True
        self._stopping.set()

    def check(self) -> None:
        """Raise what ended the writer, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            number = 1
            while not self._stopping.wait(PAUSE_SECONDS) and record_offset(number) < LOG_BYTES:
                self._write_record(number)
                number += 1
            self._request(lambda disk: disk.flush())
            if self._disk is not None:
                self._disk.disconnect()
        except TwinsiteError as error:
            self._failure = error
        finally:
            if self._disk is not None:
                self._disk.close()

    def _write_record(self, number: int) -> None:
        record = make_record(number)
        started_at = time.monotonic()
        self._request(lambda disk: disk.write(record_offset(number), record))
        self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - started_at)
        self.acknowledged = number
        if number % SCRATCH_EVERY_RECORDS == 0:
            offset = LOG_BYTES + self._chooser.randrange(SCRATCH_BYTES // RECORD_BYTES) * RECORD_BYTES
            block = self._chooser.randbytes(RECORD_BYTES)
            self._request(lambda disk: disk.write(offset, block))
        if number % FLUSH_EVERY_RECORDS == 0:
            self._request(lambda disk: disk.flush())

    def _request(self, send: Callable[[NbdClient], None]) -> None:
        """Send a request that may be repeated, reconnecting within a bound. Raises `StorageFault` past it."""
        give_up_at = time.monotonic() + RECONNECT_SECONDS_MAX
        while True:
            try:
                if self._disk is None:
                    self._disk = NbdClient(self.uri)
                send(self._disk)
                return
            except StorageFault as error:
                if self._is_abandoned or not _may_pass(error) or time.monotonic() >= give_up_at:
                    raise
            if self._disk is not None:
                self._disk.close()
                self._disk = None
                self.reconnects += 1
            time.sleep(RECONNECT_PAUSE_SECONDS)


def _may_pass(error: StorageFault) -> bool:
    """Whether a host would connect again: the server is gone, going, or not yet serving this disk."""
    return isinstance(error, ConnectionLost) or error.errno_value in {errno.ESHUTDOWN, errno.ENOENT}
