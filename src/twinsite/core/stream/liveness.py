"""When is an end of the stream to say that it lives, and when is the other one taken for dead?

Pure: the caller brings the clock. The answer is a question to act on (heartbeat, close), never a decision about data.
"""

from __future__ import annotations

from enum import Enum

from twinsite.core.limits import ACK_TIMEOUT_SECONDS, HEARTBEAT_SECONDS, PEER_SILENCE_SECONDS


class Verdict(Enum):
    """What a tick asks of the shell."""

    NOTHING = "nothing"
    SEND_HEARTBEAT = "send a heartbeat"
    PEER_SILENT = "the peer is silent"
    PEER_SLOW = "the peer acknowledges nothing"


class Liveness:
    """Times of one connection, in seconds of a monotonic clock."""

    def __init__(
        self,
        now: float,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silence_seconds: float = PEER_SILENCE_SECONDS,
        ack_timeout_seconds: float = ACK_TIMEOUT_SECONDS,
    ) -> None:
        assert heartbeat_seconds < silence_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._silence_seconds = silence_seconds
        self._ack_timeout_seconds = ack_timeout_seconds
        self._received_at = now
        self._sent_at = now
        self._waiting_since: float | None = None
        self._waiting_for = 0

    def received(self, now: float) -> None:
        """Something came from the peer."""
        self._received_at = now

    def sent(self, now: float) -> None:
        """Something went to the peer."""
        self._sent_at = now

    def tick(self, now: float, oldest_unacknowledged: int | None) -> Verdict:
        """Judge at `now`; `oldest_unacknowledged` is the sequence that the peer should acknowledge next, if any."""
        if oldest_unacknowledged is None:
            self._waiting_since = None
        elif self._waiting_since is None or oldest_unacknowledged != self._waiting_for:
            self._waiting_since = now
            self._waiting_for = oldest_unacknowledged
        elif now - self._waiting_since >= self._ack_timeout_seconds:
            return Verdict.PEER_SLOW
        if now - self._received_at >= self._silence_seconds:
            return Verdict.PEER_SILENT
        if now - self._sent_at >= self._heartbeat_seconds:
            return Verdict.SEND_HEARTBEAT
        return Verdict.NOTHING
