"""A host that writes numbered records for as long as it is let, and knows afterwards what a disk must hold."""

from __future__ import annotations

import random
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from twinsite.nbd_client import NbdClient

RECORD_BYTES = 4096
WAIT_SECONDS = 90.0
_HEAD = struct.Struct(">QQ")


def record(number: int, slot: int) -> bytes:
    """The content of the record of a number in a slot."""
    return (_HEAD.pack(number, slot) * (RECORD_BYTES // _HEAD.size))[:RECORD_BYTES]


def _shows(disk: BinaryIO, slot: int, number: int) -> bool:
    disk.seek(slot * RECORD_BYTES)
    return disk.read(RECORD_BYTES) == record(number, slot)


class NumberedWriter:
    """Writes one record after the other into random slots of a range, each after the answer to the one before."""

    def __init__(self, uri: str, *, slots: int, seed: int = 1, first_slot: int = 0, delay_seconds: float = 0.0) -> None:
        self.written: dict[int, int] = {}  # Slot to the number that it must show.
        self.count = 0
        self._client = NbdClient(uri)
        self._slots = range(first_slot, first_slot + slots)
        self._source = random.Random(seed)
        self._stop = threading.Event()
        self._delay_seconds = delay_seconds
        self._progress = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(WAIT_SECONDS)
        alive = self._thread.is_alive()
        self._client.close()
        if kind is None:
            assert not alive, f"write {self.count + 1} was never answered"
            self._check()

    def wait_for_more(self, count: int) -> None:
        """Wait until this many further writes have been answered."""
        target = self.count + count
        with self._progress:
            assert self._progress.wait_for(lambda: self.count >= target or self._failure is not None, WAIT_SECONDS), (
                f"after write {self.count} none was answered"
            )
        self._check()

    def check_disk(self, path: Path) -> None:
        """Check that a disk shows every record that was answered for, by reading its backing file."""
        assert not self.missing(path), f"{path} lacks records"

    def missing(self, path: Path) -> dict[int, int]:
        """Return the answered records, by slot, that a backing file does not show."""
        with path.open("rb") as disk:
            return {slot: number for slot, number in self.written.items() if not _shows(disk, slot, number)}

    def _check(self) -> None:
        if self._failure is not None:
            raise AssertionError(f"the host was told an error after write {self.count}") from self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._delay_seconds):
                number, slot = self.count + 1, self._source.choice(self._slots)
                self._client.write(slot * RECORD_BYTES, record(number, slot))
                with self._progress:
                    self.written[slot] = number
                    self.count = number
                    self._progress.notify_all()
        except BaseException as error:
            with self._progress:
                self._failure = error
                self._progress.notify_all()
