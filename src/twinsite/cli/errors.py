"""What can go wrong between the command line and the API, and the exit status of each."""

from __future__ import annotations

from twinsite.errors import ConfigurationError, RetryableError, TwinsiteError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class ApiRefused(TwinsiteError):
    """The API answered, and the answer is no. The text is the API's own message."""

    def __init__(self, status: int, message: str, code: str | None = None, request_id: str | None = None) -> None:
        """Keep the HTTP status, the EVS code if there is one, and the request id that the controller's log has."""
        self.status = status
        self.code = code
        self.request_id = request_id
        details = [f"HTTP {status}"]
        if code and code not in message:
            details.append(code)
        if request_id:
            details.append(request_id)
        super().__init__(f"{message} ({', '.join(details)})")


class ApiUnreachable(RetryableError):
    """Nobody answers at the API's address."""


class NotFound(TwinsiteError):
    """No object, or more than one, goes by what the user typed."""


class WaitFailed(TwinsiteError):
    """What was waited for cannot come about, or did not in time."""


def exit_status(error: TwinsiteError) -> int:
    """Return the exit status of the process that ends with `error`."""
    if isinstance(error, ApiUnreachable):
        return EXIT_UNREACHABLE
    if isinstance(error, ConfigurationError):
        return EXIT_USAGE
    return EXIT_FAILED
