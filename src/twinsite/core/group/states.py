"""The phases of a primary's stream, and every transition between them, as one table.

The invariant that the phases keep: *a host hears "done" for a write only when the arbiter has recorded that the
secondary is stale and the dirty map (or the frames in flight) covers the write, or when the secondary has applied it.*

- ALONE: no stream, the secondary is recorded as stale. A write is marked dirty and acknowledged.
- COPYING: the secondary is stale and a resync runs. A write is acknowledged at once; it travels unless all its blocks
  still wait for the resync.
- FINISHING: nothing is dirty. From here on every write waits for the secondary; the end of the resync is on its way.
- MIRRORED: the secondary has recorded that its image is consistent, and may be recorded as in sync. Every write waits.
- STOPPING: as MIRRORED, while the arbiter is asked to record the secondary as stale: the user stopped the replication.
- DRAINING: the grant is there. New writes are marked dirty and do not travel; those on their way end.
- HOLDING: the stream is down while the secondary may be recorded as in sync. Writes are applied, kept in flight and not
  acknowledged, until the stream is resumed or the arbiter grants to go on alone. Also how a primary starts.
- HEALING: as HOLDING, while this side takes from the secondary what may be missing or left over here after a crash. No
  host is served yet.
- REPLACED: another site is primary now. Nothing is acknowledged any more.
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
    STOPPING = "stopping"
    DRAINING = "draining"
    HOLDING = "holding"
    HEALING = "healing"
    REPLACED = "replaced"


class Event(Enum):
    """What moves a primary from phase to phase."""

    CONNECTED = "the secondary's welcome was accepted, and a resync is due"
    RESUMED = "the secondary's welcome was accepted, and only frames in flight are to be sent again"
    HEALS = "the secondary's welcome was accepted, and this side is to take from it what may differ"
    HEALED = "what may have differed is the secondary's, and durable here"
    SHIPPED = "nothing is dirty and no resync read is under way"
    RECORDED = "the secondary has made the end of the resync durable"
    STOPPED = "the user wants no replication"
    WANTED = "the user wants replication after all"
    DRAINED = "nothing is in flight any more"
    BROKEN = "the connection is gone, or could not be made"
    GRANTED = "the arbiter has recorded that the secondary is stale"
    REPLACED = "the arbiter or the secondary says that another site is primary"


MIRRORING: Final = frozenset({Phase.FINISHING, Phase.MIRRORED, Phase.STOPPING, Phase.HOLDING, Phase.HEALING})
"""Phases in which every write waits for the secondary."""

TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.ALONE, Event.CONNECTED): Phase.COPYING,
    (Phase.ALONE, Event.STOPPED): Phase.ALONE,
    (Phase.ALONE, Event.WANTED): Phase.ALONE,
    (Phase.ALONE, Event.BROKEN): Phase.ALONE,
    (Phase.ALONE, Event.GRANTED): Phase.ALONE,
    (Phase.COPYING, Event.SHIPPED): Phase.FINISHING,
    (Phase.COPYING, Event.STOPPED): Phase.DRAINING,
    (Phase.COPYING, Event.WANTED): Phase.COPYING,
    (Phase.COPYING, Event.BROKEN): Phase.ALONE,
    (Phase.COPYING, Event.GRANTED): Phase.COPYING,
    (Phase.FINISHING, Event.RECORDED): Phase.MIRRORED,
    (Phase.FINISHING, Event.STOPPED): Phase.DRAINING,
    (Phase.FINISHING, Event.WANTED): Phase.FINISHING,
    (Phase.FINISHING, Event.BROKEN): Phase.ALONE,
    (Phase.FINISHING, Event.GRANTED): Phase.FINISHING,
    (Phase.MIRRORED, Event.STOPPED): Phase.STOPPING,
    (Phase.MIRRORED, Event.WANTED): Phase.MIRRORED,
    (Phase.MIRRORED, Event.BROKEN): Phase.HOLDING,
    (Phase.MIRRORED, Event.GRANTED): Phase.MIRRORED,
    (Phase.STOPPING, Event.STOPPED): Phase.STOPPING,
    (Phase.STOPPING, Event.WANTED): Phase.MIRRORED,
    (Phase.STOPPING, Event.BROKEN): Phase.HOLDING,
    (Phase.STOPPING, Event.GRANTED): Phase.DRAINING,
    (Phase.DRAINING, Event.RECORDED): Phase.DRAINING,
    (Phase.DRAINING, Event.STOPPED): Phase.DRAINING,
    (Phase.DRAINING, Event.WANTED): Phase.DRAINING,
    (Phase.DRAINING, Event.DRAINED): Phase.ALONE,
    (Phase.DRAINING, Event.BROKEN): Phase.ALONE,
    (Phase.DRAINING, Event.GRANTED): Phase.DRAINING,
    (Phase.HOLDING, Event.RESUMED): Phase.MIRRORED,
    (Phase.HOLDING, Event.STOPPED): Phase.HOLDING,
    (Phase.HOLDING, Event.WANTED): Phase.HOLDING,
    (Phase.HOLDING, Event.BROKEN): Phase.HOLDING,
    (Phase.HOLDING, Event.GRANTED): Phase.ALONE,
    (Phase.HOLDING, Event.HEALS): Phase.HEALING,
    (Phase.HEALING, Event.HEALED): Phase.MIRRORED,
    (Phase.HEALING, Event.STOPPED): Phase.HOLDING,
    (Phase.HEALING, Event.WANTED): Phase.HEALING,
    (Phase.HEALING, Event.BROKEN): Phase.HOLDING,
    (Phase.HEALING, Event.GRANTED): Phase.ALONE,
    (Phase.REPLACED, Event.STOPPED): Phase.REPLACED,
    (Phase.REPLACED, Event.WANTED): Phase.REPLACED,
    (Phase.REPLACED, Event.BROKEN): Phase.REPLACED,
    (Phase.REPLACED, Event.GRANTED): Phase.REPLACED,
    **{(phase, Event.REPLACED): Phase.REPLACED for phase in Phase},
}


def next_phase(phase: Phase, event: Event) -> Phase:
    """Return the phase after `event`; an event that the table does not allow is a bug of ours."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise InternalError(f"a primary that is {phase.value} cannot take the event: {event.value}") from None
