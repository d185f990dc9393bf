"""The exit status of each error."""

from __future__ import annotations

from twinsite.client.errors import ApiUnreachable
from twinsite.errors import ConfigurationError, TwinsiteError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


def exit_status(error: TwinsiteError) -> int:
    """Return the exit status of the process that ends with `error`."""
    if isinstance(error, ApiUnreachable):
        return EXIT_UNREACHABLE
    if isinstance(error, ConfigurationError):
        return EXIT_USAGE
    return EXIT_FAILED
