"""Lets extents of the intent log go cold: what nothing has touched for a while is flushed on both sides, and dropped.

Then a crash leaves little in doubt. It is never needed, so it waits for the next round whenever anything is in the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from twinsite.core.group.primary import Primary
from twinsite.core.group.states import Phase
from twinsite.core.limits import INTENT_AGE_SECONDS
from twinsite.core.tracking.intents import EXTENT_BLOCKS
from twinsite.errors import StorageFault
from twinsite.stores.base import Store
from twinsite.worker.flush_both import FlushBoth
from twinsite.worker.intent_log import IntentLog


class Cooling:
    """One round every `INTENT_AGE_SECONDS`. `is_quiet` says whether no change is between its start and its hooks.

    `flush` starts the flush of a store in a thread; `on_failed` is called when one fails here.
    """

    def __init__(
        self,
        machine: Primary,
        intents: IntentLog,
        stores: Mapping[int, Store],
        flush: Callable[[Store], asyncio.Future[None]],
        drain: Callable[[], None],
        is_quiet: Callable[[], bool],
        on_failed: Callable[[StorageFault], object],
    ) -> None:
        self._machine = machine
        self._intents = intents
        self._stores = stores
        self._flush = flush
        self._drain = drain
        self._is_quiet = is_quiet
        self._on_failed = on_failed
        self._flushing: FlushBoth | None = None
        self._session = 0
        self._timer = asyncio.get_running_loop().call_later(INTENT_AGE_SECONDS, self._tick)

    def close(self) -> None:
        """Start no more rounds."""
        self._timer.cancel()
        self._flushing = None

    def start(self) -> bool:
        """Begin a round now; False when it must wait."""
        if self._machine.phase is not Phase.MIRRORED or not self._is_quiet():
            return False
        if self._flushing is not None and self._session == self._machine.session:
            # The end of one round would let go cold what was touched after the beginning of the other.
            return False
        if not any(intents.any() for intents in self._intents.maps.values()):
            return False
        self._session = self._machine.session
        self._flushing = FlushBoth(
            self._machine, self._stores, self._flush, self._drain, self._flushed, self._on_failed
        )
        self._drain()
        return True

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTENT_AGE_SECONDS, self._tick)
        self.start()

    def _flushed(self) -> None:
        """Everything that was applied before the round began is durable on both sides, if the stream has lasted."""
        machine = self._machine
        if self._flushing is None or machine.phase is not Phase.MIRRORED or machine.session != self._session:
            return
        self._flushing = None
        for index, intents in self._intents.maps.items():
            member = machine.members[index]
            for first, count in intents.idle_runs():
                for extent in range(first, first + count):
                    blocks = (extent * EXTENT_BLOCKS, EXTENT_BLOCKS)
                    if not member.dirty.touches(*blocks) and not member.suspect.touches(*blocks):
                        self._intents.clear(index, extent, 1)
            intents.age()
        self._intents.record([], _nothing)


def _nothing(_: object) -> None:
    """Nobody waits for a record that extents are cold."""
