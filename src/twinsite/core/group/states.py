"""The phases of a primary's stream, and every transition between them, as one table.

The invariant that the phases keep: *a host hears "done" for a write only when the secondary is known to be stale and
the dirty map (or the frames in flight) covers the write, or when the secondary has applied it.*

- ALONE: no stream. A write is marked dirty and acknowledged.
- COPYING: the secondary is stale and a resync runs. A write is acknowledged at once; it travels unless all its blocks
  still wait for the resync.
- FINISHING: nothing is dirty. From here on every write waits for the secondary; the end of the resync is on its way.
- MIRRORED: the secondary has recorded that its image is consistent. Every write waits for it.
- DRAINING: the user stopped the replication. New writes are marked dirty and do not travel; those on their way end.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from twinsite.errors import InternalError


class Phase(Enum):
    """Where a primary stands with its secondary."""

    ALONE = "alone"
    COPYING = "copying"
    FINISHING = "finishing"
    MIRRORED = "mirrored"
    DRAINING = "draining"


class Event(Enum):
    """What moves a primary from phase to phase."""

    CONNECTED = "the secondary's welcome was accepted"
    SHIPPED = "nothing is dirty and no resync read is under way"
    RECORDED = "the secondary has made the end of the resync durable"
    STOPPED = "the user wants no replication"
    DRAINED = "nothing is in flight any more"
    BROKEN = "the connection is gone"


TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.ALONE, Event.CONNECTED): Phase.COPYING,
    (Phase.ALONE, Event.STOPPED): Phase.ALONE,
    (Phase.ALONE, Event.BROKEN): Phase.ALONE,
    (Phase.COPYING, Event.SHIPPED): Phase.FINISHING,
    (Phase.COPYING, Event.STOPPED): Phase.DRAINING,
    (Phase.COPYING, Event.BROKEN): Phase.ALONE,
    (Phase.FINISHING, Event.RECORDED): Phase.MIRRORED,
    (Phase.FINISHING, Event.STOPPED): Phase.DRAINING,
    (Phase.FINISHING, Event.BROKEN): Phase.ALONE,
    (Phase.MIRRORED, Event.STOPPED): Phase.DRAINING,
    (Phase.MIRRORED, Event.BROKEN): Phase.ALONE,
    (Phase.DRAINING, Event.RECORDED): Phase.DRAINING,
    (Phase.DRAINING, Event.STOPPED): Phase.DRAINING,
    (Phase.DRAINING, Event.DRAINED): Phase.ALONE,
    (Phase.DRAINING, Event.BROKEN): Phase.ALONE,
}


def next_phase(phase: Phase, event: Event) -> Phase:
    """Return the phase after `event`; an event that the table does not allow is a bug of ours."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise InternalError(f"a primary that is {phase.value} cannot take the event: {event.value}") from None
