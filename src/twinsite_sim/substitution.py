"""Puts the simulated outside in the place of the real one in the modules of the worker, for the time of one world.

What is replaced is found by what it is, not by where it is used: whichever module of the worker imports `time` or a
thread pool gets the simulated one, without being listed here.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import twinsite.control.lifecycle.extending
import twinsite.core.group
import twinsite.core.stream
import twinsite.core.tracking
import twinsite.node.volumes
import twinsite.stores
import twinsite.worker
from twinsite.core.limits import BLOCK_BYTES
from twinsite.errors import StorageFault
from twinsite.messages import StorePlace
from twinsite.stores import opening
from twinsite.worker import arbiter_client, control, nbd_connection, primary_link, state
from twinsite.worker.adaptive_packing import AdaptivePacking
from twinsite.worker.nbd_connection import NbdConnection
from twinsite.worker.polling import AdaptivePolling
from twinsite_sim.arbiter import ArbiterWorld, SimArbiterClient
from twinsite_sim.loop import OWNER
from twinsite_sim.machine import SimExecutor, current_process
from twinsite_sim.network import Network
from twinsite_sim.node import SimControl
from twinsite_sim.stores import SimStore
from twinsite_sim.trace import Trace
from twinsite_sim.transport import SimTransport
from twinsite_sim.volumes import UNIT_BYTES

_PACKAGES = [twinsite.worker, twinsite.stores, twinsite.core.group, twinsite.core.stream, twinsite.core.tracking]
_EXTENT_BYTES = 2 * BLOCK_BYTES
_SMALL_NUMBERS = {
    "EXTENT_BYTES": _EXTENT_BYTES,
    "EXTENT_BLOCKS": _EXTENT_BYTES // BLOCK_BYTES,
    "_EXTENT_SHIFT": _EXTENT_BYTES.bit_length() - 1,
    "INTENT_AHEAD_EXTENTS": 1,
    "INTENT_AGE_SECONDS": 1.5,
    "INTENT_LOG_RECORDS_MAX": 64,
}
"""Simulated disks are small and worlds short: with the product's numbers each disk were one extent, always hot."""
_NOT_LOADED = frozenset({"twinsite.worker.__main__"})


def _modules() -> list[ModuleType]:
    """Return every module that runs inside a worker."""
    names = [
        info.name
        for package in _PACKAGES
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        if info.name not in _NOT_LOADED
    ]
    return [importlib.import_module(name) for name in names]


class _SimLog:
    """Stands for a logger: what workers log is part of the story."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def _say(self, event: str, **values: Any) -> None:
        owner = OWNER.get()
        text = " ".join(f"{name}={value}" for name, value in values.items())
        self._trace.add(owner.name if owner is not None else "world", f"{event} {text}")

    info = warning = error = exception = _say

    def debug(self, event: str, **values: Any) -> None:
        """Too much for a story."""


def _open_store(place: StorePlace, size_bytes: int) -> SimStore:
    process = current_process()
    disk = process.machine.disks.get(place.path)
    if disk is None:
        raise StorageFault("open", place.path, FileNotFoundError(2, "No such file or directory"))
    return SimStore(disk, size_bytes, process)


def _wall_clock() -> float:
    return current_process().machine.wall_clock()


def _boot_id() -> str:
    return current_process().machine.boot_id


class _Hashes:
    """Numbers connections, so that sets of them have the same order in every run."""

    def __init__(self) -> None:
        self._count = 0

    def hash_of(self, thing: Any) -> int:
        number: int | None = thing.__dict__.get("_sim_number")
        if number is None:
            self._count += 1
            number = thing.__dict__["_sim_number"] = self._count
        return number


@contextlib.contextmanager
def simulated_outside(network: Network, arbiter: ArbiterWorld, trace: Trace, seed: str) -> Iterator[None]:
    """Let workers reach only the simulated world."""
    rng = random.Random(f"{seed} secrets")
    rng_of_packing = random.Random(f"{seed} packing")
    loop = network.loop
    fake_secrets = SimpleNamespace(
        token_hex=lambda count=32: rng.getrandbits(8 * count).to_bytes(count, "big").hex(),
        token_bytes=lambda count=32: rng.getrandbits(8 * count).to_bytes(count, "big"),
    )
    fake_time = SimpleNamespace(time=_wall_clock, monotonic=loop.time, perf_counter=loop.time)
    client = type("WorldArbiterClient", (SimArbiterClient,), {"world": arbiter})
    log = _SimLog(trace)
    replacements: dict[int, Any] = {
        id(time): fake_time,
        id(secrets): fake_secrets,
        id(ThreadPoolExecutor): SimExecutor,
        id(opening.open_store): _open_store,
        id(state.read_boot_id): _boot_id,
        id(arbiter_client.ArbiterClient): client,
        id(control.ControlServer): SimControl,
    }
    changed: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, value: Any) -> None:
        changed.append((place, name, place.__dict__.get(name)))
        setattr(place, name, value)

    defining = {"ArbiterClient": arbiter_client, "ControlServer": control}
    for module in _modules():
        for name, value in list(vars(module).items()):
            if type(value).__name__ == "BoundLoggerLazyProxy":
                put(module, name, log)
            elif name in _SMALL_NUMBERS:
                put(module, name, _SMALL_NUMBERS[name])
            elif id(value) in replacements and defining.get(name) is not module:
                put(module, name, replacements[id(value)])
    put(twinsite.node.volumes, "log", log)
    put(twinsite.control.lifecycle.extending, "GIB", UNIT_BYTES)
    put(
        primary_link,
        "socket",
        SimpleNamespace(socket=network.make_socket, SOCK_STREAM=socket.SOCK_STREAM, SOCK_NONBLOCK=socket.SOCK_NONBLOCK),
    )
    put(nbd_connection, "has_hung_up", SimTransport.has_hung_up)
    hashes = _Hashes()
    put(NbdConnection, "__hash__", lambda connection: hashes.hash_of(connection))  # noqa: PLW0108
    # A world's links have no speed, and its disks are small: what is packed is left to chance.
    put(AdaptivePacking, "is_on", property(lambda link: link._is_possible and rng_of_packing.random() < 0.5))
    # Polling keeps a loop awake by the real clock; with the fake one, which stands while a loop is awake, for ever.
    put(AdaptivePolling, "received", lambda _: None)
    try:
        yield
    finally:
        for place, name, value in reversed(changed):
            if value is None:
                delattr(place, name)
            else:
                setattr(place, name, value)


def thread_count() -> int:
    """Return how many threads live: a world starts none."""
    return threading.active_count()


assert "twinsite.worker" in sys.modules
