"""The contract of every backing store; `tests/contract/test_stores.py` holds each kind to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from twinsite.errors import StorageFault


class Extent(NamedTuple):
    """A run of a store that is data, or a hole that reads as zeros."""

    offset: int
    length: int
    is_hole: bool


class Store(ABC):
    """A fixed range of bytes on a local device. Offsets and lengths are in bytes and inside `size_bytes`.

    All calls block; any may come from any thread. What `write` and `zero` put there is seen by every later read of
    this process and survives the process (page cache); `flush` makes it survive the machine. A failure raises
    `StorageFault`, whose `errno_value` a host is told. After a failed write the range's content is undefined.
    One store is open in one process at a time: opening takes an exclusive lock, and a second open raises
    `StorageFault` with EBUSY.
    """

    path: str
    size_bytes: int
    can_punch: bool
    """Zeroing gives space back and costs no data writes."""
    identity: str = ""
    """Names the file itself: one that was put in its place has another name. Empty where that cannot be told."""

    def is_in_place(self) -> bool:
        """Say whether `path` still leads to what is open here: a file that is gone is lost when its process ends."""
        return True

    def grow(self, size_bytes: int) -> None:
        """Offer more of what lies underneath, which has that size already and reads as zeros there.

        Nothing that is under way is disturbed. Raises `StorageFault` when there is less, or where a kind cannot grow.
        """
        raise StorageFault("grow", self.path, f"this kind of store cannot grow to {size_bytes} bytes while it is open")

    @abstractmethod
    def read_into(self, buffer: memoryview | bytearray, offset: int) -> None:
        """Fill the whole buffer from `offset`."""

    @abstractmethod
    def try_read(self, length: int, offset: int) -> bytearray | None:
        """Return `length` bytes at `offset` if that needs no waiting for the device, else None."""

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""

    @abstractmethod
    def zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Make the range read as zeros; give its space back if `punch` and the store can, else keep it allocated."""

    @abstractmethod
    def flush(self) -> None:
        """Make everything written so far durable (fdatasync). After a failure, the store fails every later flush."""

    @abstractmethod
    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents that cover the range, in order, neighbours of one kind merged, clipped to the range."""

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Return the bytes of space that the store takes on its device."""

    @abstractmethod
    def close(self) -> None:
        """Release the store and its lock. Idempotent; does not flush."""
