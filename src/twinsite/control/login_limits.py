"""How often log-ins may fail: per user, whoever tries, and per address, whomever it tries.

Only failures count, so that clients that log in for each command are never slowed down. An attempt takes its place
before the password is checked and gets it back when that was right: attempts at the same time cannot pass the limit
together. Memory is bounded; what was tried longest ago is forgotten first. Each controller counts for itself.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

ENTRIES_MAX = 10_000
"""Most users, and most addresses, of which failures are remembered."""
PERIOD_SECONDS = 60.0
"""In which a limit's number of failures is forgiven again, evenly."""
IPV6_PREFIX = 64
"""What one customer of an IPv6 network usually has."""


@dataclass(slots=True)
class _Entry:
    failures: float
    updated_at: float


class Failures:
    """Failures by key. At most `limit` at once, of which as many are forgiven in a minute; 0 for no limit."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        """Begin with none. `clock` gives seconds that only grow."""
        self._limit = limit
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._entries)

    def seconds_left(self, key: str) -> float:
        """Return how long a key must wait before its next attempt; 0 when it may try now."""
        entry = self._entries.get(key)
        if entry is None or self._limit == 0:
            return 0.0
        excess = self._remaining(entry) + 1 - self._limit
        return max(0.0, excess * PERIOD_SECONDS / self._limit)

    def take(self, key: str) -> None:
        """Count an attempt as a failure, until it is given back."""
        if self._limit == 0:
            return
        entry = self._entries.pop(key, None)
        failures = self._remaining(entry) if entry is not None else 0.0
        self._entries[key] = _Entry(failures + 1, self._clock())
        while len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Take it that the attempt was none that failed."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.failures, entry.updated_at = max(0.0, self._remaining(entry) - 1), self._clock()
        if entry.failures == 0.0:
            del self._entries[key]

    def _remaining(self, entry: _Entry) -> float:
        forgiven = (self._clock() - entry.updated_at) * self._limit / PERIOD_SECONDS
        return max(0.0, entry.failures - forgiven)


class LoginLimits:
    """Both limits."""

    def __init__(self, per_user: int, per_address: int, clock: Callable[[], float]) -> None:
        """Allow this many failures at once and in each minute; 0 for no limit."""
        self.users = Failures(per_user, clock)
        self.addresses = Failures(per_address, clock)

    def begin(self, user: str, address: str) -> int:
        """Begin an attempt; return 0, or after how many seconds it may be tried."""
        network = _network(address)
        seconds = max(self.users.seconds_left(user), self.addresses.seconds_left(network))
        if seconds > 0:
            return math.ceil(seconds)
        self.users.take(user)
        self.addresses.take(network)
        return 0

    def succeed(self, user: str, address: str) -> None:
        """End an attempt that was no failure."""
        self.users.give_back(user)
        self.addresses.give_back(_network(address))


def _network(address: str) -> str:
    """Return what stands for an address: itself, or the network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return address
