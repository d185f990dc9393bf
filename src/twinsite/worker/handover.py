"""The last step of a primary before a planned switchover: both sides durable and equal, and nobody writing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial

import structlog

from twinsite.core.group.flight import FlushWaiter
from twinsite.core.group.primary import Primary
from twinsite.stores.base import Store

log = structlog.get_logger(__name__)


class Handover:
    """Flushes every member on both sides, once, after the last write is acknowledged and no host is served.

    `drain` lets the group send and tell; `on_done` is called when everything is durable. A flush that fails leaves the
    handover unfinished: whoever asked for it takes the wish back.
    """

    def __init__(
        self,
        machine: Primary,
        stores: Mapping[int, Store],
        executor: Executor,
        drain: Callable[[], None],
        on_done: Callable[[], None],
    ) -> None:
        """Start the flushes."""
        self._machine = machine
        self._drain = drain
        self._on_done = on_done
        self._waiting = set(stores)
        self.is_done = False
        loop = asyncio.get_running_loop()
        for index, store in stores.items():
            waiter = machine.flush_begun(index, (_Flush(self, index), 0))
            future = loop.run_in_executor(executor, store.flush)
            future.add_done_callback(partial(self._flushed_here, waiter))

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
            log.error("primary.handover_failed", error=str(error))
            self._machine.flush_local_failed(waiter)
        self._drain()


class _Flush:
    """Stands where a host's connection would, to hear that a flush is done."""

    def __init__(self, handover: Handover, index: int) -> None:
        self._handover = handover
        self._index = index

    def complete(self, cookie: int) -> None:
        """The flush is durable on both sides."""
        self._handover.flushed(self._index)

    def flush(self) -> None:
        """Nothing is queued here."""
