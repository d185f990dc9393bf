"""Simulated machines and the processes on them: boots, crashes, clocks, threads."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinsite_sim.files import SimFiles
from twinsite_sim.loop import OWNER, Entry, Killed, SimLoop
from twinsite_sim.stores import SimDisk
from twinsite_sim.trace import Trace

if TYPE_CHECKING:
    from twinsite_sim.network import SimServer
    from twinsite_sim.transport import SimTransport

EPOCH_SECONDS = 1_800_000_000.0
"""What a clock that is right shows at the start of a world."""


class Machine:
    """A computer: it has a clock, disks, a file system for state, and processes; it crashes and boots."""

    def __init__(self, name: str, address: str, loop: SimLoop, trace: Trace, seed: str) -> None:
        self.name = name
        self.address = address
        self.loop = loop
        self.trace = trace
        self.random = random.Random(f"{seed} {name}")
        self.is_up = True
        self.boot_number = 1
        self.clock_offset_seconds = 0.0
        self.clock_changes: list[tuple[float, float]] = [(0.0, 0.0)]  # (since, offset)
        self.disks: dict[str, SimDisk] = {}
        self.files = SimFiles(self.random, self.operation)
        self.processes: list[Process] = []
        self.thread_seconds = 0.0005
        """Mean time that a thread takes to start, and to be heard of."""
        self.slow_rate = 0.0
        self.slow_seconds = 1.0
        self.is_pool_full = False
        """No disk can be made, or made larger."""
        self.on_lost_writes: Callable[[Machine, str, list[int], bool], None] = lambda machine, path, sectors, told: None
        """Called when a disk has lost what was not flushed: its path, the sectors, and whether a flush has said so."""
        self.on_crash: Callable[[Machine], None] = lambda machine: None
        self._next_port = 30_000

    @property
    def boot_id(self) -> str:
        """The kernel's name of this boot."""
        return f"{self.name}-boot-{self.boot_number}"

    def wall_clock(self) -> float:
        """Return what the machine's clock shows, in seconds since the epoch."""
        return EPOCH_SECONDS + self.loop.time() + self.clock_offset_seconds

    def set_clock(self, offset_seconds: float) -> None:
        """Let the clock go wrong by so much."""
        self.clock_offset_seconds = offset_seconds
        self.clock_changes.append((self.loop.time(), offset_seconds))
        self.trace.add(self.name, f"clock is off by {offset_seconds:+.1f} s")

    def true_times(self, shown: float) -> list[float]:
        """Return the moments of the world at which the clock showed this; the nearest one if it never did."""
        moments = []
        ends = [since for since, _ in self.clock_changes[1:]] + [float("inf")]
        for (since, offset), end in zip(self.clock_changes, ends, strict=True):
            moment = shown - EPOCH_SECONDS - offset
            if since - 1e-3 <= moment <= end + 1e-3:
                moments.append(moment)
        return moments or [0.0]

    def add_disk(self, path: str, size_bytes: int) -> SimDisk:
        """Plug in a disk full of zeros."""
        disk = SimDisk(path, size_bytes, self.random, self.operation, lambda sectors: self._dropped(path, sectors))
        self.disks[path] = disk
        return disk

    def _dropped(self, path: str, sectors: list[int]) -> None:
        self.trace.add(self.name, f"{path}: a failed flush drops {len(sectors)} sectors: {brief(sectors)}")
        disk = self.disks[path]
        disk.told_at = math.inf
        when_heard(lambda: disk.hear(self.loop.time()))
        self.on_lost_writes(self, path, sectors, True)

    def take_port(self) -> int:
        """Return a port that is free."""
        self._next_port += 1
        return self._next_port

    def operation(self, what: str) -> None:
        """Something is about to happen to a disk or a file: the point at which a process may end."""
        owner = OWNER.get()
        if isinstance(owner, Process):
            owner.operation(what)

    def thread_delay(self) -> float:
        """Return how long the next step of a thread takes to come."""
        delay = self.random.expovariate(1.0) * self.thread_seconds
        if self.slow_rate and self.random.random() < self.slow_rate:
            delay += self.random.random() * self.slow_seconds
        return delay

    def crash(self) -> None:
        """The power fails: processes end without a word, and what was not flushed is lost, wholly or in part."""
        if not self.is_up:
            return
        self.trace.add(self.name, "machine crashes")
        self.is_up = False
        self.on_crash(self)
        for process in list(self.processes):
            process.end(is_heard=False)
        for path, disk in self.disks.items():
            lost = disk.crash()
            if lost:
                self.trace.add(self.name, f"{path} has lost {len(lost)} sectors: {brief(lost)}")
                self.on_lost_writes(self, path, lost, False)
        self.files.crash()

    def boot(self) -> None:
        """Come up again."""
        if not self.is_up:
            self.is_up = True
            self.boot_number += 1
            self.trace.add(self.name, f"machine boots as {self.boot_id}")


class Process:
    """A process of a simulated machine. What runs in its context ends with it."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.loop = machine.loop
        self.is_alive = True
        self.is_frozen = False
        self.deferred: list[Entry] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.transports: dict[SimTransport, None] = {}
        self.servers: list[SimServer] = []
        self.operations_left: int | None = None
        self.takes_machine_down = False
        self.on_end: Callable[[], None] = lambda: None
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        machine.processes.append(self)
        machine.loop.processes.append(self)

    def call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Let the process run a callback soon."""
        if self.is_alive:
            self.loop.call_soon(callback, *arguments, context=self.context)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let the process run a coroutine."""
        self.call(lambda: self.loop.create_task(function()))

    def operation(self, what: str) -> None:
        """The process is about to touch a disk or a file: raises `Killed` if it ends before that."""
        if not self.is_alive:
            raise Killed
        if self.operations_left is not None:
            self.operations_left -= 1
            if self.operations_left < 0:
                self.machine.trace.add(self.name, f"ends before: {what}")
                if self.takes_machine_down:
                    self.machine.crash()
                else:
                    self.end()
                raise Killed

    def freeze(self, *, on: bool) -> None:
        """Stop the process as a debugger would, or let it go on."""
        if on == self.is_frozen or not self.is_alive:
            return
        self.machine.trace.add(self.name, "is stopped" if on else "goes on")
        self.is_frozen = on
        if not on:
            entries, self.deferred = self.deferred, []
            self.loop.resume(entries)

    def end(self, *, is_heard: bool = True) -> None:
        """End as by a kill: nothing of it runs any more. `is_heard`: the kernel closes its connections."""
        if not self.is_alive:
            return
        if is_heard:
            self.machine.trace.add(self.name, "ends")
        self.is_alive = False
        self.deferred.clear()
        self.machine.processes.remove(self)
        for server in self.servers:
            server.close()
        for transport in list(self.transports):
            transport.orphan(is_heard=is_heard)
        self.transports.clear()
        for disk in self.machine.disks.values():
            disk.release(self)
        self.on_end()

    def dispose(self) -> None:
        """Close the coroutines that the end has left behind. The world is over."""
        self.loop.close_tasks(self.tasks)


def current_process() -> Process:
    """Return the process that runs just now."""
    owner = OWNER.get()
    assert isinstance(owner, Process)
    return owner


def brief(numbers: list[int]) -> str:
    """Write sorted numbers as ranges, the first few of them."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in ranges[:6]]
    return ", ".join(shown) + (" …" if len(ranges) > 6 else "")


@dataclass(eq=False)
class _Job:
    """A call that a thread is to make."""

    work: Callable[[], Any]
    future: _JobFuture
    is_begun: bool = False
    outcome: Any = None
    error: BaseException | None = None
    heard: Callable[[], None] = lambda: None


class _JobFuture(Future[Any]):
    """The future of a job; whoever blocks on it lets the job run at once."""

    run_now: Callable[[], None] = staticmethod(lambda: None)

    def result(self, timeout: float | None = None) -> Any:
        """Return the outcome."""
        if not self.done():
            self.run_now()
        return super().result(timeout)


class SimExecutor(Executor):
    """Stands for a thread pool. A job runs as a whole at some later moment, and is heard of at a still later one."""

    def __init__(self, max_workers: int = 1, thread_name_prefix: str = "") -> None:
        del thread_name_prefix
        self._process = current_process()
        self._max_workers = max_workers
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call."""
        future = _JobFuture()
        job = _Job(lambda: function(*args, **kwargs), future)
        future.run_now = lambda: self._hurry(job)
        self._waiting.append(job)
        self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; what was taken runs now if that is waited for."""
        if cancel_futures:
            for job in self._waiting:
                job.future.cancel()
            self._waiting.clear()
        if wait:
            for job in [*self._running, *self._waiting]:
                self._hurry(job)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._max_workers:
            job = self._waiting.popleft()
            self._running.append(job)
            self._process.loop.call_later(self._process.machine.thread_delay(), self._begin, job)

    def _begin(self, job: _Job) -> None:
        if job.is_begun or job.future.cancelled():
            self._finish(job)
            return
        self._work(job)
        seconds = self._process.machine.thread_delay() + _EXTRA_SECONDS[0]
        self._process.loop.call_later(seconds, self._finish, job)

    def _work(self, job: _Job) -> None:
        job.is_begun = True
        _EXTRA_SECONDS[0] = 0.0
        _HEARD[0] = lambda: None
        try:
            job.outcome = job.work()
        except Killed:
            raise
        except BaseException as error:
            job.error = error
        job.heard = _HEARD[0]

    def _finish(self, job: _Job) -> None:
        if job in self._running:
            self._running.remove(job)
        if not job.future.done():
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.outcome)
            job.heard()
        self._start()

    def _hurry(self, job: _Job) -> None:
        if not job.is_begun:
            if job in self._waiting:
                self._waiting.remove(job)
            self._work(job)
        self._finish(job)


_EXTRA_SECONDS = [0.0]
_HEARD: list[Callable[[], None]] = [lambda: None]


def take_long(seconds: float) -> None:
    """Called by a job: its caller hears of its end only so much later."""
    _EXTRA_SECONDS[0] = seconds


def when_heard(callback: Callable[[], None]) -> None:
    """Called by a job: make this call at the moment when its caller hears of its end, if it still waits."""
    _HEARD[0] = callback


STATE_ROOT = Path("/state")
"""Where the workers of a simulated machine keep their state."""
