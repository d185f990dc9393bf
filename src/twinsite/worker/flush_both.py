"""A flush of all of a group's disks at both sites, as a switchover and the ageing of write intents need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from twinsite.core.group.flight import FlushWaiter
from twinsite.core.group.primary import Primary
from twinsite.errors import StorageFault
from twinsite.stores.base import Store

log = structlog.get_logger(__name__)


class FlushBoth:
    """Flushes every member on both sides, once: what was applied before is durable when `is_done`.

    `flush` starts the flush of a store in a thread; `drain` lets the group send and tell; `on_done` is called when
    everything is durable. A flush that fails leaves it unfinished; one that fails here calls `on_failed` with the
    fault, since what is read may not be on the disk then. If the stream ends meanwhile, only this side is flushed: the
    caller must see that it did not.
    """

    def __init__(
        self,
        machine: Primary,
        stores: Mapping[int, Store],
        flush: Callable[[Store], asyncio.Future[None]],
        drain: Callable[[], None],
        on_done: Callable[[], None],
        on_failed: Callable[[StorageFault], object],
    ) -> None:
        """Start the flushes."""
        self._machine = machine
        self._drain = drain
        self._on_done = on_done
        self._on_failed = on_failed
        self._waiting = set(stores)
        self.is_done = False
        for index, store in stores.items():
            waiter = machine.flush_begun(index, (_Flush(self, index), 0, 0.0, None))
            flush(store).add_done_callback(partial(self._flushed_here, waiter))

    def flushed(self, index: int) -> None:
        """A member is durable on both sides."""
        self._waiting.discard(index)
        if not self._waiting:
            self.is_done = True
            self._on_done()

    def _flushed_here(self, waiter: FlushWaiter, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._machine.flush_local_done(waiter)
        else:
            log.error("primary.flush_failed", error=str(error))
            self._machine.flush_local_failed(waiter)
            assert isinstance(error, StorageFault), error
            self._on_failed(error)
        self._drain()


class _Flush:
    """Stands where a host's connection would, to hear that a flush is done."""

    def __init__(self, flushing: FlushBoth, index: int) -> None:
        self._flushing = flushing
        self._index = index

    def complete(self, cookie: int) -> None:
        """The flush is durable on both sides."""
        self._flushing.flushed(self._index)

    def flush(self) -> None:
        """Nothing is queued here."""
