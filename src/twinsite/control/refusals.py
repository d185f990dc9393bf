"""Why a request is refused: an HTTP status, a documented EVS code, and a sentence with the object and the way out."""

from __future__ import annotations

from collections.abc import Collection

from twinsite.errors import TwinsiteError

PEER_UNREACHABLE = "37100043"
"""The EVS code for "the peer AZ cannot be messaged"."""
INTERNAL_FAULT = "37000212"
"""The EVS code for an internal fault."""
BUSY = "37000216"
"""The EVS code for "busy"."""


class RequestRefused(TwinsiteError):
    """A client asked for what cannot be done. `status` is the HTTP status, `code` the EVS code."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_seconds: int | None = None) -> None:
        """Refuse with `message`, a sentence for a person, and perhaps for some time only."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class StateRefused(RequestRefused):
    """What is asked is well-formed, and the state of its object does not allow it: 400.

    Where another request made that state while this one was under way, a 409 takes its place (`overlap`).
    """

    def __init__(self, message: str, code: str = "EVS.5400") -> None:
        """Refuse with a sentence that names the object, its state, and the way out."""
        super().__init__(400, code, message)


def bad_request(message: str, code: str = "EVS.5400") -> RequestRefused:
    """Return a 400."""
    return RequestRefused(400, code, message)


def not_found(kind: str, object_id: str) -> RequestRefused:
    """Return a 404. Objects of other projects get the same answer, so that ids cannot be probed."""
    return RequestRefused(
        404,
        "EVS.5404",
        f"The {kind} {object_id!r} does not exist in this project. List what there is, and name one of that.",
    )


def conflict(message: str) -> RequestRefused:
    """Return a 409: a concurrent change won."""
    return RequestRefused(409, "EVS.5409", message)


def quota_exceeded(message: str) -> RequestRefused:
    """Return a 413 for a quota that is used up."""
    return RequestRefused(413, "EVS.1034", message)


def not_implemented(message: str) -> RequestRefused:
    """Return a 501 for what the interface knows and this release does not."""
    return RequestRefused(501, "EVS.5501", message)


def site_unreachable(site: str, consequence: str) -> RequestRefused:
    """Return a 503 for a site whose node is silent."""
    message = f"{PEER_UNREACHABLE}: the node of {site} is not connected. {consequence}"
    return RequestRefused(503, "EVS.5503", message)


def not_in_time(message: str) -> RequestRefused:
    """Return a 503 for a site that did not do in time what was asked of it."""
    return RequestRefused(503, "EVS.5503", f"{PEER_UNREACHABLE}: {message}")


def wrong_state(
    kind: str, object_id: str, status: str, allowed: Collection[str], way_out: str, code: str = "EVS.5400"
) -> StateRefused:
    """Return a 400 that names the state, the states that would do, and the way out."""
    # Members of an enumeration would show their names.
    needed = " or ".join(repr(str(item)) for item in sorted(allowed))
    return StateRefused(
        f"The {kind} {object_id} is {str(status)!r}; this needs {needed}. {way_out}",
        code,
    )
