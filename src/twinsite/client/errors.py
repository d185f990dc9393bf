"""What can go wrong between a client and the API. All are `TwinsiteError`s; none is retried for the caller in vain."""

from __future__ import annotations

from twinsite.errors import RetryableError, TwinsiteError


class ApiRefused(TwinsiteError):
    """The API answered, and the answer is no. `message` is its own; the subclass says which status it had."""

    def __init__(self, status: int, message: str, code: str | None = None, request_id: str | None = None) -> None:
        """Keep the HTTP status, the EVS code if there is one, and the request id that the controller's log has."""
        self.status = status
        self.message = message
        self.code = code
        self.request_id = request_id
        details = [f"HTTP {status}"]
        if code and code not in message:
            details.append(code)
        if request_id:
            details.append(request_id)
        super().__init__(f"{message} ({', '.join(details)})")


class BadRequest(ApiRefused):
    """400: the request is malformed, or the object is in no state for it; the message names the way out."""


class Unauthorized(ApiRefused):
    """401: the log-in was refused, or the token is not good even after a new log-in."""


class Forbidden(ApiRefused):
    """403: the user's roles do not allow it."""


class ObjectMissing(ApiRefused):
    """404: the project has no such object."""


class Conflict(ApiRefused):
    """409: a concurrent change came first. Read the object, and decide anew."""


class QuotaExceeded(ApiRefused):
    """413: more than the project's quota, or a body that is too long."""


class Unavailable(ApiRefused):
    """503: a site that is needed is out of reach, or something did not happen in time. It may pass by itself."""


_KINDS: dict[int, type[ApiRefused]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: ObjectMissing,
    409: Conflict,
    413: QuotaExceeded,
    503: Unavailable,
}


def refused(status: int, message: str, code: str | None = None, request_id: str | None = None) -> ApiRefused:
    """Return the error for an answer of this status."""
    return _KINDS.get(status, ApiRefused)(status, message, code, request_id)


class ApiUnreachable(RetryableError):
    """Nobody answers at the API's address. `was_sent`: the request may have been taken all the same."""

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        """Say what was tried and where the address comes from."""
        self.was_sent = was_sent
        super().__init__(message)


class NotFound(TwinsiteError):
    """No object, or more than one, goes by the name or the beginning of an id that was given."""


class WaitFailed(TwinsiteError):
    """What was waited for cannot come about, or did not in time."""


class WaitedTooLong(WaitFailed):
    """What was waited for may still come about."""
