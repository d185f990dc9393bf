"""The event loop of a simulated world: virtual time, one thread, one order of events for one seed.

Callbacks belong to the process in whose context they were made. Those of a process that has ended are dropped, and
those of one that is stopped wait until it goes on, which is how a process is killed or frozen between any two events.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import socket
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from twinsite.errors import InternalError, TwinsiteError

if TYPE_CHECKING:
    from twinsite_sim.network import Network, SimServer
    from twinsite_sim.transport import SimSocket

CLOSE_ATTEMPTS_MAX = 100
"""A coroutine that is closed may await on its way out, so often at most."""

Entry = tuple["Owner | None", asyncio.Handle]


class Owner(Protocol):
    """A process of a simulated machine, as the loop sees it."""

    name: str
    is_alive: bool
    is_frozen: bool
    deferred: list[Entry]
    tasks: list[asyncio.Task[Any]]


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)
"""The process that the running callback belongs to; None for the world itself."""

KERNEL = contextvars.Context()
"""The context of what happens outside every process: wires, disks, faults."""


class Killed(BaseException):
    """The process that runs just now has ended in the middle of what it does."""


class WorldFailure(AssertionError):
    """The world's answer is wrong: a checker has found something, or a process met a bug of its own."""


class SimLoop(asyncio.BaseEventLoop):
    """An asyncio loop without sockets, threads or real time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[Entry] = deque()
        self._timers: list[tuple[float, int, Owner | None, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self.network: Network | None = None
        self.failure: BaseException | None = None
        self._own_tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.processes: list[Any] = []
        """Every process that ever was: the coroutines of the dead ones end with the world and not before."""
        self.set_exception_handler(self._take_exception)
        self.set_debug(False)

    # Time and order

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback behind those that are queued."""
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append((context.get(OWNER), handle))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Queue a callback for a time; those of one time run in the order of their making."""
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), context.get(OWNER), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Queue a callback for a time from now."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def run_world(self, main: Coroutine[Any, Any, None], *, steps_max: int) -> None:
        """Run until `main` is done. Raises what it raises, the first failure of any process, or `WorldFailure`."""
        task = self.create_task(main)
        self.steps = 0
        events._set_running_loop(self)
        try:
            while not task.done() and self.failure is None:
                self._step()
                self.steps += 1
                if self.steps > steps_max:
                    raise WorldFailure(f"the world does not end: {steps_max} events and no end")
        finally:
            events._set_running_loop(None)
        if self.failure is not None:
            raise self.failure
        task.result()

    def resume(self, entries: list[Entry]) -> None:
        """Queue what a frozen process has missed."""
        self._soon.extend(entries)

    def _step(self) -> None:
        if self._soon:
            owner, handle = self._soon.popleft()
        elif self._timers:
            when, _, owner, handle = heapq.heappop(self._timers)
            if handle.cancelled():
                return
            self._now = max(self._now, when)
        else:
            raise WorldFailure("the world stands still: nobody waits for anything")
        if handle.cancelled():
            return
        if owner is not None:
            if not owner.is_alive:
                return
            if owner.is_frozen:
                owner.deferred.append((owner, handle))
                return
        handle._run()

    # Failures

    def _take_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something raised where nobody could catch it."""
        del loop
        error = context.get("exception")
        if error is None or isinstance(error, Killed):
            return  # Also: a task that was destroyed while it waited, because its process has ended.
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the world with this failure, unless it has one already."""
        if self.failure is None:
            self.failure = error

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Make a task that its owner remembers; one that dies, of a bug or by the word of a checker, ends the world."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        owner = (context or contextvars.copy_context()).get(OWNER)
        if owner is None:
            self._own_tasks.append(task)
        else:
            owner.tasks.append(task)
        task.add_done_callback(self._look_at_end)
        return task

    def close_tasks(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Close the coroutines of tasks that will not run any more. The world is over."""
        for task in tasks:
            if task.done():
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            for _ in range(CLOSE_ATTEMPTS_MAX):
                try:
                    task.get_coro().close()
                except (RuntimeError, Killed):
                    continue  # It awaits something on its way out.
                except BaseException:
                    break
                break
        tasks.clear()

    def dispose(self) -> None:
        """Close what the world itself still does, and the loop."""
        self.close_tasks(self._own_tasks)
        self.close()

    def _look_at_end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None or isinstance(error, (Killed, OSError)):
            return
        if isinstance(error, TwinsiteError) and not isinstance(error, InternalError):
            return  # Whoever awaits it takes it.
        self.fail(error)

    # What workers ask of a loop, answered by the simulated network

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """Every name is an address."""
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a simulated socket. Raises `OSError`."""
        assert self.network is not None
        await self.network.connect(sock, address)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], Any],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: SimSocket | None = None,
        **_: Any,
    ) -> tuple[asyncio.Transport, Any]:
        """Connect, or take a connected socket over. Raises `OSError`."""
        assert self.network is not None
        if sock is None:
            sock = self.network.make_socket()
            await self.network.connect(sock, (host or "", port or 0))
        return await self.network.attach(sock, protocol_factory)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: str | None = None, port: int | None = None, **_: Any
    ) -> SimServer:
        """Listen on an address of the running process's machine. Raises `OSError`."""
        assert self.network is not None
        return self.network.listen(protocol_factory, host or "", port or 0)
