"""When a peer is asked for a sign of life, and when it is given up: a table of silences."""

from __future__ import annotations

import pytest

from twinsite.core.stream.liveness import Liveness, Verdict

HEARTBEAT, SILENCE, ACK = 1.0, 5.0, 10.0


def make(now: float = 0.0) -> Liveness:
    """A connection that was made at `now`."""
    return Liveness(now, heartbeat_seconds=HEARTBEAT, silence_seconds=SILENCE, ack_timeout_seconds=ACK)


@pytest.mark.parametrize(
    "received_at, sent_at, now, verdict",
    [
        (0.0, 0.0, 0.0, Verdict.NOTHING),
        (0.0, 0.0, 0.9, Verdict.NOTHING),
        (0.0, 0.0, 1.0, Verdict.SEND_HEARTBEAT),
        (0.0, 4.5, 4.9, Verdict.NOTHING),
        (0.0, 4.5, 5.0, Verdict.PEER_SILENT),
        (4.0, 4.0, 5.0, Verdict.SEND_HEARTBEAT),
        (4.0, 8.9, 8.9, Verdict.NOTHING),
        (4.0, 8.9, 9.0, Verdict.PEER_SILENT),
    ],
)
def test_silence(received_at: float, sent_at: float, now: float, verdict: Verdict) -> None:
    liveness = make()
    liveness.received(received_at)
    liveness.sent(sent_at)
    assert liveness.tick(now, None) is verdict


def test_a_heartbeat_is_due_once_until_it_was_sent() -> None:
    liveness = make()
    liveness.received(1.0)
    assert liveness.tick(1.0, None) is Verdict.SEND_HEARTBEAT
    liveness.sent(1.0)
    assert liveness.tick(1.5, None) is Verdict.NOTHING


def talk(liveness: Liveness, now: float, oldest: int | None) -> Verdict:
    """A tick of a connection on which both sides keep talking."""
    liveness.received(now)
    liveness.sent(now)
    return liveness.tick(now, oldest)


def test_a_peer_that_talks_but_acknowledges_nothing_is_slow() -> None:
    liveness = make()
    assert talk(liveness, 1.0, 7) is Verdict.NOTHING
    assert talk(liveness, 10.9, 7) is Verdict.NOTHING
    assert talk(liveness, 11.0, 7) is Verdict.PEER_SLOW


def test_a_peer_that_acknowledges_but_does_not_answer_a_question_is_mute() -> None:
    liveness = Liveness(0.0, answer_timeout_seconds=60.0)
    for now, oldest_question, verdict in [
        (0.0, 7, Verdict.NOTHING),
        (59.0, 7, Verdict.NOTHING),
        (59.5, 9, Verdict.NOTHING),
        (119.0, 9, Verdict.NOTHING),
        (119.5, 9, Verdict.PEER_MUTE),
        (120.0, None, Verdict.NOTHING),
    ]:
        liveness.received(now)
        liveness.sent(now)
        assert liveness.tick(now, None, oldest_question) is verdict, now


def test_each_acknowledgement_starts_the_wait_anew() -> None:
    liveness = make()
    for step in range(5):
        assert talk(liveness, 9.0 * step, 7 + step) is Verdict.NOTHING


def test_nothing_to_wait_for_ends_the_wait() -> None:
    liveness = make()
    talk(liveness, 0.0, 7)
    talk(liveness, 9.0, None)
    assert talk(liveness, 12.0, 7) is Verdict.NOTHING
    assert talk(liveness, 21.9, 7) is Verdict.NOTHING
    assert talk(liveness, 22.0, 7) is Verdict.PEER_SLOW


def test_silence_is_found_before_slowness_is() -> None:
    liveness = make()
    liveness.tick(0.0, 7)
    assert liveness.tick(5.0, 7) is Verdict.PEER_SILENT
