"""The exit status of each error."""

from __future__ import annotations

from twinsite.client.errors import ApiUnreachable, WaitedTooLong
from twinsite.errors import ConfigurationError, TwinsiteError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_IN_TIME = 4
EXIT_NOT_WELL = 5
"""Of `twinsite status --check`: something needs a hand."""


def exit_status(error: TwinsiteError) -> int:
    """Return the exit status of the process that ends with `error`."""
    if isinstance(error, ApiUnreachable):
        return EXIT_UNREACHABLE
    if isinstance(error, WaitedTooLong):
        return EXIT_NOT_IN_TIME
    if isinstance(error, ConfigurationError):
        return EXIT_USAGE
    return EXIT_FAILED
