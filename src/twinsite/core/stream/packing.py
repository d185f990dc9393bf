"""Compressed content of a resync: what is packed on one side and unpacked on the other, one frame at a time.

Whether it pays is for the shell to find out; whether it is right is for the checksum of the frame, which is over the
compressed bytes, and for the size that a Zstandard frame states of its content and is held to.
"""

from __future__ import annotations

from typing import Final

import zstandard

from twinsite.core.limits import FRAME_PAYLOAD_BYTES_MAX
from twinsite.core.stream.frames import Flag, Frame, Kind
from twinsite.errors import PeerViolation

LEVEL: Final = 1
"""Of Zstandard: several hundred MiB/s on one core. Higher ones are slower than the links that they would help."""
WORTH_PARTS: Final = 8
"""What does not get smaller by one of so many parts is sent as it is."""


def pack(data: bytes | bytearray | memoryview) -> bytes | None:
    """Return the compressed form of a frame's data, or None where that is hardly smaller. Best done in a thread."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
    return packed if len(packed) <= len(data) - len(data) // WORTH_PARTS else None


def unpack(frame: Frame) -> Frame:
    """Return the WRITE that a PACKED frame stands for; its payload is memory of its own.

    Raises `PeerViolation` for what is not exactly one compressed piece of 1 to `FRAME_PAYLOAD_BYTES_MAX` bytes.
    """
    assert frame.payload is not None
    try:
        length = zstandard.frame_content_size(frame.payload)
        # Before anything is made of it: a few bytes may claim to be any number of them.
        if not 0 < length <= FRAME_PAYLOAD_BYTES_MAX:
            raise PeerViolation(f"frame {frame.sequence} claims to hold {length} bytes")
        data = zstandard.ZstdDecompressor().decompress(frame.payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PeerViolation(f"frame {frame.sequence} is packed wrongly: {error}") from None
    return frame._replace(kind=int(Kind.WRITE), flags=int(Flag.RESYNC), length=len(data), payload=memoryview(data))
