"""A host whose writes depend on each other across two volumes, and the oracle of what both must show at any time.

It writes number n to volume A, waits for the answer, writes n to volume B, waits, and goes on with n + 1. Each number
goes to a slot of its own, round and round. So an image of both volumes at one point in time shows the same last number
on both, or one more on A, and before it every number of a round.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence

from twinsite.errors import StorageFault
from twinsite.nbd_client import NbdClient

RECORD_BYTES = 4096
SLOTS = 64
FLUSH_EVERY = 16
WAIT_SECONDS = 90.0
_NUMBER = struct.Struct(">Q")


class DependentWriter:
    """Writes from `start` to `stop`, or until a volume is taken away; knows what was answered over all its runs."""

    def __init__(self, past: DependentWriter | None = None, *, patience_seconds: float = WAIT_SECONDS) -> None:
        """Go on where `past` is, which may still wait for an answer at another site.

        A single write is waited for at most `patience_seconds`, by the host and by who waits for the host.
        """
        self.answered: list[int] = [0, 0] if past is None else list(past.answered)
        self.tried: list[int] = [0, 0] if past is None else list(past.tried)
        self._patience_seconds = patience_seconds
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self, uris: Sequence[str]) -> None:
        """Begin on what the two volumes show, which is checked first."""
        self._stop.clear()
        clients = [NbdClient(uri, timeout_seconds=self._patience_seconds) for uri in uris]
        last = self.check([last_number(client) for client in clients])
        self._thread = threading.Thread(target=self._run, args=(clients, last), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the number that is under way."""
        self._stop.set()
        self.wait_ended()

    def wait_ended(self) -> None:
        """Wait until a volume was taken away, or the number under way is written."""
        assert self._thread is not None
        self._thread.join(self._patience_seconds)
        assert not self._thread.is_alive(), f"write {self.tried} was never answered"
        self._thread = None

    def wait_for_more(self, count: int) -> None:
        """Wait until this many further numbers were answered on both volumes."""
        with self._progress:
            target = self.answered[1] + count
            assert self._progress.wait_for(lambda: self.answered[1] >= target, self._patience_seconds), (
                f"after {self.answered} nothing was answered"
            )

    def check(self, shown: Sequence[int]) -> list[int]:
        """Check that the last numbers of the two volumes can be: nothing answered is missing, no gap, no order lost."""
        first, second = shown
        said = f"A shows {first}, B shows {second}; answered {self.answered}, tried {self.tried}"
        assert first in (second, second + 1), f"not one point in time: {said}"
        assert first >= self.answered[0], f"an answered write is lost: {said}"
        assert second >= self.answered[1], f"an answered write is lost: {said}"
        assert first <= self.tried[0], f"what nobody wrote: {said}"
        assert second <= self.tried[1], f"what nobody wrote: {said}"
        return [first, second]

    def _run(self, clients: list[NbdClient], last: list[int]) -> None:
        try:
            first, second = last
            if first > second:
                self._write(clients, 1, first)
            number = first
            while not self._stop.is_set():
                number += 1
                self._write(clients, 0, number)
                self._write(clients, 1, number)
                if number % FLUSH_EVERY == 0:
                    for client in clients:
                        client.flush()
        except StorageFault:
            return
        finally:
            for client in clients:
                client.close()

    def _write(self, clients: list[NbdClient], volume: int, number: int) -> None:
        self.tried[volume] = number
        clients[volume].write(number % SLOTS * RECORD_BYTES, _NUMBER.pack(number) * (RECORD_BYTES // _NUMBER.size))
        with self._progress:
            self.answered[volume] = number
            self._progress.notify_all()


def last_number(client: NbdClient) -> int:
    """Return the last number that a volume shows, after checking that it shows all the ones of a round before it."""
    shown: list[int] = []
    for slot in range(SLOTS):
        record = client.read(slot * RECORD_BYTES, RECORD_BYTES)
        (number,) = _NUMBER.unpack_from(record)
        assert record == _NUMBER.pack(number) * (RECORD_BYTES // _NUMBER.size), f"slot {slot} is torn"
        shown.append(number)
    last = max(shown)
    expected = {slot: number for number in range(max(1, last - SLOTS + 1), last + 1) for slot in [number % SLOTS]}
    for slot, number in expected.items():
        assert shown[slot] == number, f"slot {slot} shows {shown[slot]}, not {number}; the last is {last}"
    return last
