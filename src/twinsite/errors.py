"""The one tree of exceptions. Four families tell the caller what may be done about them.

`assert` is for bugs of ours only; whatever comes from a peer, a client or a disk raises one of these.
"""

from __future__ import annotations

import errno


class TwinsiteError(Exception):
    """Root of all errors raised by this package."""


class InternalError(TwinsiteError):
    """A bug of ours: the process or the group stops rather than go on with a broken invariant."""


class PeerViolation(TwinsiteError):
    """The other end of a connection broke its protocol. The connection ends, and nothing else does."""


class StorageFault(TwinsiteError):
    """A backing store failed. `errno_value` is the kernel's errno, or EIO when there is none."""

    def __init__(self, operation: str, path: str, cause: OSError | str) -> None:
        """Describe a failed `operation` ("write", "flush" …) on the store at `path`."""
        self.operation = operation
        self.path = path
        self.errno_value = (cause.errno or errno.EIO) if isinstance(cause, OSError) else errno.EIO
        text = cause.strerror if isinstance(cause, OSError) else cause
        super().__init__(f"{operation} failed on {path}: {text}")


class RetryableError(TwinsiteError):
    """A fault that may pass: the same request can be tried again within a bound."""


class ConfigurationError(TwinsiteError):
    """What the operator gave cannot work. The message says what, and what to do next."""
