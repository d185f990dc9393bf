"""What is decided after crashes and failed flushes: every input of each table against rules that say what is safe."""

from __future__ import annotations

from itertools import product

import pytest

from twinsite.core.group.recovery import (
    AFTER_GRANT,
    FLUSH_FAILED,
    START,
    WHILE_HOLDING,
    Action,
    Basis,
    Consequence,
    Difference,
    Past,
    Peer,
    decide,
    judge,
    may_ask_alone,
)
from twinsite.core.group.states import Phase
from twinsite.core.stream.hello import Doubt, Welcome

BOTH = (False, True)
HOLDINGS = list(product(Peer, BOTH, BOTH, BOTH))


# What a primary starts from


def test_every_past_has_its_row() -> None:
    assert set(START) == set(Past)


@pytest.mark.parametrize("past", Past)
def test_a_start_takes_for_equal_only_what_its_past_vouches_for(past: Past) -> None:
    basis = START[past].basis
    saw_the_end = past is Past.CLEAN
    has_a_log = past in (Past.CRASHED, Past.REBOOTED, Past.LED)
    is_the_lineage = past is Past.FOLLOWED
    if basis is Basis.SAVED:
        assert saw_the_end
    elif basis is Basis.RECORDED:
        assert has_a_log
    elif basis is Basis.NOTHING:
        assert is_the_lineage
    else:
        assert not (saw_the_end or has_a_log or is_the_lineage), "more would be compared than can differ"


@pytest.mark.parametrize("past", Past)
def test_a_start_lacks_writes_where_unflushed_ones_may_have_been_lost(past: Past) -> None:
    may_have_lost = past in (Past.REBOOTED, Past.DOUBTED)
    says = START[past].lacks_writes
    assert (says is True) == may_have_lost
    if past in (Past.CLEAN, Past.CRASHED):
        assert says is None, "a stop of the process loses nothing, and brings nothing back"


@pytest.mark.parametrize("past", Past)
def test_a_start_believes_that_the_other_side_has_all_only_on_record(past: Past) -> None:
    says = START[past].peer_has_all
    if past in (Past.CLEAN, Past.CRASHED, Past.REBOOTED):
        assert says is None, "as the primary here it has recorded that, either way"
    elif past is Past.DOUBTED:
        assert says is True, "the primary that it followed has every write that was applied here"
    else:
        assert says is False, "nobody else has what this side may acknowledge from now on"


@pytest.mark.parametrize("past", Past)
def test_whoever_lacks_writes_at_its_start_suspects_something(past: Past) -> None:
    start = START[past]
    if start.lacks_writes:
        assert start.basis in (Basis.RECORDED, Basis.ALL)


# What a secondary is

GENERATIONS = ("known", "other known")
LINEAGES = {"known": "known", "unknown": "unknown", "empty": ""}
LED = {
    "led known": ["older", "other known"],
    "led unknown": ["older", "oldest"],
    "led nothing": [],
}
WELCOMES = [
    pytest.param(Welcome(1, name, consistent=consistent, doubt=doubt, led=led), id=f"{key}-{consistent}-{doubt}-{of}")
    for (key, name), consistent, doubt, (of, led) in product(LINEAGES.items(), BOTH, Doubt, LED.items())
]


@pytest.mark.parametrize("welcome", WELCOMES)
def test_what_a_welcome_makes_of_a_secondary(welcome: Welcome) -> None:
    peer = judge(welcome, GENERATIONS)
    is_known = welcome.generation == "known"
    has_led = "other known" in welcome.led
    assert (peer in (Peer.SAME, Peer.PARTIAL, Peer.RESTARTED, Peer.FAILED)) == is_known
    assert (peer in (Peer.LED, Peer.LED_RESTARTED, Peer.LED_FAILED)) == (has_led and not is_known)
    assert (peer is Peer.SAME) == (is_known and welcome.consistent and welcome.doubt is Doubt.NONE)
    assert (peer is Peer.PARTIAL) == (is_known and not welcome.consistent and welcome.doubt is Doubt.NONE)
    assert (peer is Peer.RESTARTED) == (is_known and welcome.doubt is Doubt.RESTARTED)
    assert (peer is Peer.LED_RESTARTED) == (has_led and not is_known and welcome.doubt is Doubt.RESTARTED)
    if welcome.doubt is Doubt.FLUSH_FAILED:
        assert AFTER_GRANT[peer] in (Difference.COPY_RECORDED, Difference.COPY_NAMED, Difference.COPY_ALL), (
            "what is read there proves nothing"
        )
    else:
        assert peer not in (Peer.FAILED, Peer.LED_FAILED)
    if not is_known and not has_led:
        has_content = bool(welcome.generation or welcome.led)
        assert peer is (Peer.FOREIGN if has_content and welcome.doubt is not Doubt.FLUSH_FAILED else Peer.EMPTY)


@pytest.mark.parametrize("welcome", WELCOMES)
def test_to_a_primary_that_knows_no_lineage_nobody_is_known(welcome: Welcome) -> None:
    assert judge(welcome, ()) in (Peer.FOREIGN, Peer.EMPTY)
    assert judge(welcome, ("",)) in (Peer.FOREIGN, Peer.EMPTY), "no name is no lineage"


# What a primary that holds does


def test_every_secondary_has_its_rows() -> None:
    assert set(WHILE_HOLDING) == set(HOLDINGS)


@pytest.mark.parametrize("peer, peer_has_all, lacks_writes, differs", HOLDINGS)
def test_what_is_done_while_holding_is_safe(peer: Peer, peer_has_all: bool, lacks_writes: bool, differs: bool) -> None:
    action = decide(peer, peer_has_all=peer_has_all, lacks_writes=lacks_writes, differs=differs)
    if action is Action.RESUME:
        assert peer is Peer.SAME, (
            "only an image of a known lineage, consistent and without doubt, is mirrored to as it is"
        )
        assert not differs, "what differs would stay different"
        assert not (lacks_writes and peer_has_all), "what is missing here would stay missing"
    if action is Action.HEAL:
        assert peer_has_all, "what this side acknowledged alone would be overwritten"
        assert peer is Peer.SAME or (peer is Peer.LED and lacks_writes), "nothing is taken from an image in doubt"
    has_lost_it_too = peer in (Peer.RESTARTED, Peer.LED_RESTARTED)
    has_what_is_missing = peer_has_all and lacks_writes and not has_lost_it_too
    if action is Action.ASK:
        assert not has_what_is_missing, "a grant would make the loss final"
    if action is Action.WAIT:
        assert has_what_is_missing, "nobody has more than this side: waiting ends never"
        assert peer not in (Peer.SAME, Peer.LED), "this one can bring it"


@pytest.mark.parametrize("peer, peer_has_all, lacks_writes, differs", HOLDINGS)
def test_what_can_go_on_without_a_grant_does(peer: Peer, peer_has_all: bool, lacks_writes: bool, differs: bool) -> None:
    action = decide(peer, peer_has_all=peer_has_all, lacks_writes=lacks_writes, differs=differs)
    if peer is Peer.SAME and peer_has_all:
        assert action is (Action.HEAL if differs or lacks_writes else Action.RESUME)
    if peer is Peer.SAME and not lacks_writes and not differs:
        assert action is Action.RESUME


@pytest.mark.parametrize("peer_has_all, lacks_writes", list(product(BOTH, BOTH)))
def test_unheard_of_a_secondary_that_may_have_more_is_never_left_behind(peer_has_all: bool, lacks_writes: bool) -> None:
    assert may_ask_alone(peer_has_all=peer_has_all, lacks_writes=lacks_writes) is not (peer_has_all and lacks_writes)


# What may differ after a grant


def test_every_secondary_has_its_difference() -> None:
    assert set(AFTER_GRANT) == set(Peer)


NAMES_NOTHING = {Difference.NOTHING}
NAMES_RECORDED = {Difference.COMPARE_RECORDED, Difference.COPY_RECORDED}
NAMES_THEIRS = {Difference.COMPARE_NAMED, Difference.COPY_NAMED}
NAMES_ALL = {Difference.COMPARE_ALL, Difference.COPY_ALL}
COPIES = {Difference.COPY_RECORDED, Difference.COPY_NAMED, Difference.COPY_ALL}


@pytest.mark.parametrize("peer", Peer)
def test_nothing_is_skipped_that_may_differ(peer: Peer) -> None:
    difference = AFTER_GRANT[peer]
    if difference in NAMES_NOTHING:
        # The maps name all that it lacks: it has lost nothing, and never wrote on its own.
        assert peer in (Peer.SAME, Peer.PARTIAL)
    elif difference in NAMES_RECORDED:
        # It lost what was not flushed at both sides, and all of that is in this side's log.
        assert peer in (Peer.RESTARTED, Peer.FAILED)
    elif difference in NAMES_THEIRS:
        assert peer in (Peer.LED, Peer.LED_RESTARTED, Peer.LED_FAILED)
    else:
        assert difference in NAMES_ALL
        assert peer in (Peer.FOREIGN, Peer.EMPTY), "the maps would have been good for something"


@pytest.mark.parametrize("peer", Peer)
def test_where_reading_proves_nothing_nothing_is_compared(peer: Peer) -> None:
    reads_lie = peer in (Peer.FAILED, Peer.LED_FAILED, Peer.EMPTY)
    if AFTER_GRANT[peer] is not Difference.NOTHING:
        assert (AFTER_GRANT[peer] in COPIES) == reads_lie


# What becomes of a primary whose disk fails a flush


FAILURES = list(product(Phase, BOTH))
ALONE_ALREADY = (Phase.ALONE, Phase.COPYING, Phase.FINISHING, Phase.DRAINING)
"""What is acknowledged in these is not, or was not, waited for: the secondary may lack it."""


def test_every_phase_has_its_consequence() -> None:
    assert set(FLUSH_FAILED) == set(FAILURES)


@pytest.mark.parametrize("phase, peer_has_all", FAILURES)
def test_disks_in_doubt_are_given_up_for_the_secondary_only_where_that_has_everything(
    phase: Phase, peer_has_all: bool
) -> None:
    consequence = FLUSH_FAILED[phase, peer_has_all]
    if consequence is Consequence.RENEW:
        assert peer_has_all, "what this side acknowledged alone would be overwritten"
        assert phase not in ALONE_ALREADY
        assert phase is not Phase.REPLACED, (
            "its disks are shown to nobody, and another primary says what they are to hold"
        )
    elif peer_has_all:
        assert phase in (*ALONE_ALREADY, Phase.REPLACED), "hosts could read what is older than what they were told"
