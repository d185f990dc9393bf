"""Sites in network namespaces of their own, joined by a router whose every path a test can cut, thin out or slow down.

Each place (a site, the controller) has a namespace with one interface, and a route by way of the router's. What happens
to packets is one table of nftables in the router, replaced as a whole, so a change takes effect at one instant for all
paths. Packets that are dropped vanish without a word, as behind a dead switch: no reset, no unreachable.

The names carry the pid of the test process, so those that a killed test left behind are found and removed by the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

COMMAND_SECONDS_MAX = 90.0
NAMES_DIR = Path("/run/netns")
BURST_BYTES = 32 * 1024
"""What a slowed path lets through at once; more than one packet of the largest size that a path joins."""
QUEUE_MILLISECONDS = 2000
"""How long a packet may wait at a slowed path before it is dropped."""

_PREFIX = "tsnet"
_NAME = re.compile(rf"{_PREFIX}-(\d+)-\d+-\w+")
_COUNTER = re.compile(r"counter packets (\d+)")
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A system command failed; the message is its own."""


class Network:
    """Places and the paths between them. Use as a context manager; processes inside must have ended before."""

    def __init__(self, places: Sequence[str]) -> None:
        """Name the places; an address is what `address` says. Skips the test when this machine has no namespaces."""
        self.places = list(places)
        self._prefix = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-"
        self._cut: set[tuple[str, str]] = set()
        self._loss_percent: dict[tuple[str, str], int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        _require_tools()
        _remove_leftovers()
        with ExitStack() as stack:
            stack.callback(self._remove)
            self._make()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self, place: str) -> str:
        """Return the address of a place, which only the other places know."""
        return f"10.77.{self.places.index(place)}.2"

    @contextlib.contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Move this thread to a place: sockets and processes that it makes meanwhile belong there for good."""
        with open("/proc/thread-self/ns/net", "rb") as home, (NAMES_DIR / self._name(place)).open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    # What can happen to paths. A path has a direction: from the first place to the second.

    def cut(self, *paths: tuple[str, str]) -> None:
        """Let nothing through on these paths."""
        self._cut |= set(paths)
        self._apply()

    def cut_only(self, *paths: tuple[str, str]) -> None:
        """Let nothing through on these paths, and everything on those that were cut before, in one step."""
        self._cut = set(paths)
        self._apply()

    def cut_between(self, first: str, second: str) -> None:
        """Let nothing through between two places, in neither direction."""
        self.cut((first, second), (second, first))

    def isolate(self, place: str) -> None:
        """Let nothing through to and from a place."""
        self.cut(*[path for other in self.places if other != place for path in ((place, other), (other, place))])

    def lose(self, percent: int, *paths: tuple[str, str]) -> None:
        """Drop packets at random on these paths."""
        self._loss_percent |= dict.fromkeys(paths, percent)
        self._apply()

    def lost_packets(self) -> int:
        """Return how many packets were dropped at random since the paths last changed."""
        return sum(
            map(int, _COUNTER.findall(_run("ip", "netns", "exec", self._name("router"), "nft", "list", "ruleset")))
        )

    def slow_down(self, place: str, bits_per_second: int) -> None:
        """Let no more than this through towards a place; what must wait too long is dropped."""
        limit = ["rate", f"{bits_per_second}bit", "burst", str(BURST_BYTES), "latency", f"{QUEUE_MILLISECONDS}ms"]
        _run("tc", "-n", self._name("router"), "qdisc", "replace", "dev", place, "root", "tbf", *limit)

    def heal(self) -> None:
        """Let everything through again."""
        self._cut.clear()
        self._loss_percent.clear()
        self._apply()
        for place in self.places:
            # There is none to delete where nothing was slowed down.
            _try("tc", "-n", self._name("router"), "qdisc", "delete", "dev", place, "root")

    # Inside

    def _name(self, place: str) -> str:
        return f"{self._prefix}{place}"

    def _make(self) -> None:
        router = self._name("router")
        try:
            _run("ip", "netns", "add", router)
        except CommandFailed as error:
            pytest.skip(f"no network namespaces here: {error}")
        with self.inside("router"):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for number, place in enumerate(self.places):
            name = self._name(place)
            _run("ip", "netns", "add", name)
            _run(
                "ip",
                "link",
                "add",
                "name",
                place,
                "netns",
                router,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            _run("ip", "-n", router, "address", "add", f"10.77.{number}.1/24", "dev", place)
            _run("ip", "-n", router, "link", "set", place, "up")
            _run("ip", "-n", name, "address", "add", f"{self.address(place)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", name, "link", "set", device, "up")
            _run("ip", "-n", name, "route", "add", "default", "via", f"10.77.{number}.1")
        self._apply()

    def _apply(self) -> None:
        rules = [f"ip saddr {self.address(a)} ip daddr {self.address(b)} drop" for a, b in sorted(self._cut)]
        for (a, b), percent in sorted(self._loss_percent.items()):
            path = f"ip saddr {self.address(a)} ip daddr {self.address(b)}"
            rules.append(f"{path} numgen random mod 100 < {percent} counter drop")
        lines = ["flush ruleset", "table inet paths {", "chain forward {", "type filter hook forward priority 0"]
        text = "\n".join([*lines, *rules, "}", "}", ""])
        command = ["ip", "netns", "exec", self._name("router"), "nft", "-f", "-"]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"this kernel cannot filter packets as the test needs: {done.stderr}")

    def _remove(self) -> None:
        for place in [*self.places, "router"]:
            if (NAMES_DIR / self._name(place)).exists():
                _run("ip", "netns", "delete", self._name(place))


def _require_tools() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for tool in ("ip", "tc", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; scripts/setup-test-packages installs it")


def _remove_leftovers() -> None:
    """Remove the namespaces of test processes that are no more."""
    for path in NAMES_DIR.glob(f"{_PREFIX}-*") if NAMES_DIR.exists() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None and not Path(f"/proc/{match[1]}").exists():
            _try("ip", "netns", "delete", path.name)  # Another test process may do the same.


def _enter(descriptor: int) -> None:
    """Move the calling thread to a network namespace (setns(2), which Python has from 3.12 on)."""
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def _try(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_SECONDS_MAX)
