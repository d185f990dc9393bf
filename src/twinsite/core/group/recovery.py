"""What is decided after crashes and failed flushes, as four tables.

`START` says what a primary starts from, by how the last role ended here; `WHILE_HOLDING` says what it may do with a
secondary that comes while that may be recorded as in sync; `AFTER_GRANT` says what may differ once the arbiter has
recorded it as stale; `FLUSH_FAILED` says what becomes of a primary whose disk fails a flush. All are complete: every
input has its row.

What "recorded" extents mean: the intent log names every extent in which the two sides may differ, or in which either
holds what is not durable. An image therefore equals that of a lineage outside of them.

Two facts about this side count, and both are durable:

- `peer_has_all`: every write that a host was told "done" for is at the secondary, of the lineages known. True from the
  moment before the arbiter is told that the secondary is in sync, and False from the moment before the first
  acknowledgement without it.
- `lacks_writes`: the machine restarted under a primary, or a flush failed: writes that were acknowledged may be missing
  here. What the secondary has then counts, unless it does not have everything itself.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Final, NamedTuple

from twinsite.core.group.states import Phase
from twinsite.core.stream.hello import Doubt, Welcome


class Past(Enum):
    """How the last role here ended, as its state tells."""

    CLEAN = "a primary saved its maps"
    CRASHED = "a primary ended without saving them"
    REBOOTED = "the same, and the machine restarted since, or a flush had failed: unflushed writes may be missing"
    FOLLOWED = "a secondary whose image is at a common point, all of it there"
    DOUBTED = "the same, but the machine restarted, or a flush failed, before all of it was durable"
    LED = "a primary that was replaced, and has not been copied to since"
    UNKNOWN = "nothing that could be relied on"


class Basis(Enum):
    """What a primary takes for different at its start."""

    SAVED = "the saved maps"
    RECORDED = "the extents in the intent log, which are suspected"
    NOTHING = "nothing: this image is that of the lineage"
    ALL = "everything is suspected"


class Start(NamedTuple):
    """What a primary starts from. `None` keeps what the state says."""

    basis: Basis
    peer_has_all: bool | None
    lacks_writes: bool | None


START: Final[dict[Past, Start]] = {
    Past.CLEAN: Start(Basis.SAVED, None, None),
    Past.CRASHED: Start(Basis.RECORDED, None, None),
    Past.REBOOTED: Start(Basis.RECORDED, None, True),
    Past.FOLLOWED: Start(Basis.NOTHING, False, False),
    # The other side has them, and can bring them; or else an operator must accept the loss.
    Past.DOUBTED: Start(Basis.ALL, True, True),
    Past.LED: Start(Basis.RECORDED, False, False),
    Past.UNKNOWN: Start(Basis.ALL, False, False),
}


class Peer(Enum):
    """What the secondary's image is, seen from here."""

    SAME = "of a known lineage, at a common point, and all of it there"
    PARTIAL = "of a known lineage, in the middle of a resync"
    RESTARTED = "of a known lineage, but its machine restarted and may have lost what was not flushed"
    FAILED = "of a known lineage, but a flush failed there"
    LED = "this group's former primary, of a known lineage outside of what it names"
    LED_RESTARTED = "the same, but its machine restarted and may have lost what was not flushed"
    LED_FAILED = "the same, but a flush failed there"
    FOREIGN = "of a lineage that is not known"
    EMPTY = "nothing yet"


class Action(Enum):
    """What a primary that holds does with a secondary."""

    RESUME = "mirror: nothing differs but what is in flight, which is sent again"
    HEAL = "take from the secondary what may differ, then mirror; or, from a former primary, ask as if nothing had been"
    ASK = "ask the arbiter to go on alone: a resync must come first"
    WAIT = "go on holding: this side may lack writes, and this secondary cannot bring them"


class Difference(Enum):
    """What may differ besides what the maps say, once this side may go on alone."""

    NOTHING = "nothing"
    COMPARE_RECORDED = "the extents in this side's intent log are compared"
    COPY_RECORDED = "the extents in this side's intent log are copied: reading at the secondary proves nothing"
    COMPARE_NAMED = "the extents in both sides' intent logs are compared"
    COPY_NAMED = "the extents in both sides' intent logs are copied"
    COMPARE_ALL = "everything is compared"
    COPY_ALL = "everything is copied"


def judge(welcome: Welcome, generations: Collection[str]) -> Peer:
    """Return what a secondary is to a primary whose maps are good for the lineages `generations`."""
    failed = welcome.doubt is Doubt.FLUSH_FAILED
    if welcome.generation and welcome.generation in generations:
        if failed:
            return Peer.FAILED
        if welcome.doubt is Doubt.RESTARTED:
            return Peer.RESTARTED
        return Peer.SAME if welcome.consistent else Peer.PARTIAL
    if any(name in generations for name in welcome.led):
        if failed:
            return Peer.LED_FAILED
        return Peer.LED_RESTARTED if welcome.doubt is Doubt.RESTARTED else Peer.LED
    if failed:
        # Nothing that is read there proves anything, so it is as good as empty.
        return Peer.EMPTY
    return Peer.FOREIGN if welcome.generation or welcome.led else Peer.EMPTY


WHILE_HOLDING: Final[dict[tuple[Peer, bool, bool, bool], Action]] = {
    # (peer, peer_has_all, lacks_writes, differs): what to do
    (Peer.SAME, False, False, False): Action.RESUME,
    (Peer.SAME, False, False, True): Action.ASK,
    (Peer.SAME, True, False, False): Action.RESUME,
    (Peer.SAME, True, False, True): Action.HEAL,
    (Peer.SAME, True, True, False): Action.HEAL,
    (Peer.SAME, True, True, True): Action.HEAL,
    # This side was promoted as in sync, so the former primary has never acknowledged anything that is not there.
    (Peer.LED, True, True, False): Action.HEAL,
    (Peer.LED, True, True, True): Action.HEAL,
    # Both machines restarted: what is missing here is missing there as well, and what was flushed is at both.
    **{
        (peer, True, True, differs): Action.ASK
        for peer in (Peer.RESTARTED, Peer.LED_RESTARTED)
        for differs in (False, True)
    },
    **{
        (peer, has_all, False, differs): Action.ASK
        for peer in Peer
        if peer is not Peer.SAME
        for has_all in (False, True)
        for differs in (False, True)
    },
    # Where a flush failed at the secondary, it may still have some of what is missing here, and lack some of what is
    # not: to go on with either image drops what the other alone has. Only a person may choose.
    **{
        (peer, True, True, differs): Action.WAIT
        for peer in Peer
        if peer not in (Peer.SAME, Peer.LED, Peer.RESTARTED, Peer.LED_RESTARTED)
        for differs in (False, True)
    },
    # Writes are missing only where somebody else has them: nobody does, so this is the best that there is.
    **{(peer, False, True, differs): Action.ASK for peer in Peer for differs in (False, True)},
}

AFTER_GRANT: Final[dict[Peer, Difference]] = {
    Peer.SAME: Difference.NOTHING,
    Peer.PARTIAL: Difference.NOTHING,
    Peer.RESTARTED: Difference.COMPARE_RECORDED,
    Peer.FAILED: Difference.COPY_RECORDED,
    Peer.LED: Difference.COMPARE_NAMED,
    Peer.LED_RESTARTED: Difference.COMPARE_NAMED,
    Peer.LED_FAILED: Difference.COPY_NAMED,
    Peer.FOREIGN: Difference.COMPARE_ALL,
    Peer.EMPTY: Difference.COPY_ALL,
}


class Consequence(Enum):
    """What a primary does when a flush has failed here: what it reads may be older than what it acknowledged."""

    RENEW = "show the disks to nobody, open them anew, and take from the secondary what they may lack"
    GO_ON = "fail the flush to hosts and go on: nobody else has everything that was acknowledged"


_WAIT_FOR_SECONDARY: Final = frozenset({Phase.MIRRORED, Phase.STOPPING, Phase.HOLDING, Phase.HEALING})
"""Phases that leave what the secondary has on record as it is. All others follow a grant, or another primary."""

FLUSH_FAILED: Final[dict[tuple[Phase, bool], Consequence]] = {
    # (phase, peer_has_all): what to do
    (phase, peer_has_all): Consequence.RENEW if peer_has_all and phase in _WAIT_FOR_SECONDARY else Consequence.GO_ON
    for phase in Phase
    for peer_has_all in (False, True)
}


def decide(peer: Peer, *, peer_has_all: bool, lacks_writes: bool, differs: bool) -> Action:
    """Return what a primary that holds does; `differs` says whether its maps name anything."""
    return WHILE_HOLDING[peer, peer_has_all, lacks_writes, differs]


def may_ask_alone(*, peer_has_all: bool, lacks_writes: bool) -> bool:
    """Say whether a primary that has not heard of its secondary may ask the arbiter to go on without it."""
    return not (peer_has_all and lacks_writes)
