"""When is an end of the stream to say that it lives, and when is the other one taken for dead?

Pure: the caller brings the clock. The answer is a question to act on (heartbeat, close), never a decision about data.
"""

from __future__ import annotations

from enum import Enum

from twinsite.core.limits import (
    ACK_TIMEOUT_SECONDS,
    ANSWER_TIMEOUT_SECONDS,
    HEARTBEAT_SECONDS,
    PEER_SILENCE_SECONDS,
)


class Verdict(Enum):
    """What a tick asks of the shell."""

    NOTHING = "nothing"
    SEND_HEARTBEAT = "send a heartbeat"
    PEER_SILENT = "the peer is silent"
    PEER_SLOW = "the peer acknowledges nothing"
    PEER_MUTE = "the peer does not answer what it was asked about its disk"


class _Wait:
    """Since when the same sequence has been waited for."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._since: float | None = None
        self._sequence = 0

    def is_overdue(self, now: float, sequence: int | None) -> bool:
        if sequence is None:
            self._since = None
        elif self._since is None or sequence != self._sequence:
            self._since, self._sequence = now, sequence
        return self._since is not None and now - self._since >= self._timeout_seconds


class Liveness:
    """Times of one connection, in seconds of a monotonic clock."""

    def __init__(
        self,
        now: float,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silence_seconds: float = PEER_SILENCE_SECONDS,
        ack_timeout_seconds: float = ACK_TIMEOUT_SECONDS,
        answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        assert heartbeat_seconds < silence_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._silence_seconds = silence_seconds
        self._received_at = now
        self._sent_at = now
        self._acknowledgement = _Wait(ack_timeout_seconds)
        self._answer = _Wait(answer_timeout_seconds)

    def received(self, now: float) -> None:
        """Something came from the peer."""
        self._received_at = now

    def sent(self, now: float) -> None:
        """Something went to the peer."""
        self._sent_at = now

    def tick(self, now: float, oldest_unacknowledged: int | None, oldest_question: int | None = None) -> Verdict:
        """Judge at `now`.

        `oldest_unacknowledged` is the sequence that the peer should acknowledge next, if any; `oldest_question` that of
        the comparison or fetch that it should answer.
        """
        if self._acknowledgement.is_overdue(now, oldest_unacknowledged):
            return Verdict.PEER_SLOW
        if self._answer.is_overdue(now, oldest_question):
            return Verdict.PEER_MUTE
        if now - self._received_at >= self._silence_seconds:
            return Verdict.PEER_SILENT
        if now - self._sent_at >= self._heartbeat_seconds:
            return Verdict.SEND_HEARTBEAT
        return Verdict.NOTHING
