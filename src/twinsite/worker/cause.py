"""Which request of the API what a primary does follows from, so that the arbiter and the event log can name it."""

from __future__ import annotations


class Cause:
    """The request behind a primary's present doing.

    It is that of the newest wish, until a stream that came up since breaks by itself: what follows from that, nobody
    asked for. A wish that the role began with is no cause, for a worker that starts anew begins with it too.
    """

    def __init__(self, request_id: str) -> None:
        """Begin with the request of the spec that the role began with."""
        self.request_id = ""
        self._heard = request_id
        self._sessions = 0

    def hear(self, request_id: str, sessions: int) -> None:
        """Take the request of a spec. `sessions` counts how often the stream has come up."""
        if request_id != self._heard:
            self.request_id = self._heard = request_id
            self._sessions = sessions

    def stream_broke(self, sessions: int, *, is_wanted: bool) -> None:
        """The stream, or an attempt at one, has ended. One that is not wanted ends because of the wish."""
        if is_wanted and sessions != self._sessions:
            self.request_id = ""
