"""Which requests about one object are under way at the same time, so that a late loser is told the truth.

A request that changes an object reads, decides, and writes only if nobody was faster: who decided on the same state as
the winner gets a 409 from that. Who reads a moment later sees what the winner made, and would be refused as if it had
asked for nonsense. But its client sent it when it could not know, so it gets the same 409: a request is overtaken when
another one, whose time in this process overlaps with its own, changed the object. One after the other they never do.

Pure: no clock, no database. Controllers that share a database know of their own requests only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from twinsite.control.refusals import RequestRefused, StateRefused, conflict


@dataclass(eq=False, slots=True)
class UnderWay:
    """A request about an object, from its head to the last byte of its answer."""

    object_id: str
    peers: set[UnderWay] = field(repr=False)
    """All about the same object that are under way, itself included."""
    has_changed: bool = False
    is_overtaken: bool = False

    def judged(self, refusal: StateRefused) -> RequestRefused:
        """Return the refusal of a request that the state does not allow: a 409 if another one made that state."""
        if not self.is_overtaken and not any(peer.has_changed for peer in self.peers if peer is not self):
            return refusal
        return conflict(
            f"Another change of {self.object_id} came first, so this request did nothing. {refusal.message} "
            "Read it and decide again."
        )


current: ContextVar[UnderWay | None] = ContextVar("current", default=None)
"""The request of this task."""


def note_change(object_id: str) -> None:
    """Remember that the request of this task changes the object, once that is decided and before others can see it."""
    request = current.get()
    if request is not None and request.object_id == object_id:
        request.has_changed = True


class Overlaps:
    """The requests that are under way in this process, by their object. Holds nothing when there are none."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_object: dict[str, set[UnderWay]] = {}

    @contextlib.contextmanager
    def under_way(self, object_id: str) -> Iterator[UnderWay]:
        """Count a request as under way within the block, which its task spends on nothing else."""
        peers = self._by_object.setdefault(object_id, set())
        request = UnderWay(object_id, peers)
        peers.add(request)
        token = current.set(request)
        try:
            yield request
        finally:
            current.reset(token)
            peers.remove(request)
            if request.has_changed:
                for peer in peers:
                    peer.is_overtaken = True
            if not peers:
                del self._by_object[object_id]

    def __len__(self) -> int:
        """Return how many requests are under way."""
        return sum(map(len, self._by_object.values()))
