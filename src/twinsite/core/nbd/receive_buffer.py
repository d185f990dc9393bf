"""The one buffer that a connection receives into and parses in place."""

from __future__ import annotations

import mmap


class ReceiveBuffer:
    """A fixed piece of memory; `[start, end)` of it is received and not yet consumed.

    The shell fills `space()` and reports with `filled`; a parser consumes by moving `start`. Bytes stay where they are
    until `compact`, so views of them are valid until then.
    """

    __slots__ = ("capacity", "end", "start", "view")

    def __init__(self, capacity: int) -> None:
        """Allocate `capacity` bytes."""
        assert capacity > 0
        self.capacity = capacity
        # A mapping begins at a page, to where the kernel copies almost twice as fast as to a bytearray's memory.
        self.view = memoryview(mmap.mmap(-1, capacity, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.start = 0
        self.end = 0

    def space(self) -> memoryview:
        """Return the free part, to be filled from its beginning."""
        return self.view[self.end :]

    def filled(self, count: int) -> None:
        """Note that `count` bytes were put at the beginning of `space()`."""
        assert 0 <= count <= self.capacity - self.end
        self.end += count

    def compact(self) -> None:
        """Make room: afterwards at least half of the buffer is free, unless more than that is unconsumed.

        Views handed out before are void. What is left is moved only when it must be, because moving costs.
        """
        if self.start == self.end:
            self.start = self.end = 0
        elif self.capacity - self.end < self.capacity // 2:
            left = self.end - self.start
            self.view[:left] = self.view[self.start : self.end]
            self.start, self.end = 0, left
