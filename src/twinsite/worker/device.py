"""What stands between the NBD server and a volume: the server validates and replies, a device executes.

The NBD connection hands over everything that one receive brought as one batch, so that a device can write, send and
acknowledge once per batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twinsite.core.nbd.export import ExportInfo
from twinsite.core.nbd.transmission import Request
from twinsite.stores.base import Extent

__all__ = ["Device", "ExportInfo", "ReplySink", "Request"]


class ReplySink(Protocol):
    """The connection that a batch came from. Replies are queued and leave in one send at `flush`.

    Each request is completed or failed exactly once; while it is in progress, no other one of the connection has its
    cookie. After the connection is gone every call is a harmless no-op. A device calls `flush` once after completing
    requests outside `submit`; the server itself flushes after `submit` returns.
    """

    def complete(self, cookie: int) -> None:
        """The request succeeded and carries no data back."""

    def fail(self, cookie: int, errno_value: int) -> None:
        """The request failed with a kernel errno; the server translates it to an NBD error."""

    def complete_read(self, cookie: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """A read succeeded with `data` at `offset` of the volume; the sink may keep a reference to `data`."""

    def complete_block_status(self, cookie: int, extents: Sequence[Extent]) -> None:
        """A block-status request succeeded; the extents start at the request's offset."""

    def flush(self) -> None:
        """Send the queued replies."""

    def is_gone(self) -> bool:
        """Say whether the connection is gone, or its client has hung up: nothing that it asked for is to begin then."""

    def pause_reading(self) -> None:
        """Take no further requests from this connection until `resume_reading` (backpressure).

        Calls are counted: reading goes on after as many calls of `resume_reading`.
        """

    def resume_reading(self) -> None:
        """Undo one `pause_reading`."""


class Device(Protocol):
    """A volume as the NBD server sees it."""

    info: ExportInfo

    def submit(self, batch: Sequence[Request], sink: ReplySink) -> None:
        """Execute the batch in order. Must consume every payload before it returns; may complete requests later."""

    def connection_lost(self, sink: ReplySink) -> None:
        """The connection is gone: forget it. Requests already taken go on."""
