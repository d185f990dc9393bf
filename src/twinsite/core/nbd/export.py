"""What a client is told about a volume."""

from __future__ import annotations

from dataclasses import dataclass

from twinsite.core.nbd.constants import TransmissionFlag


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What the handshake tells a client about a volume."""

    name: str  # The volume's id.
    description: str
    size_bytes: int
    read_only: bool = False
    can_fast_zero: bool = False


def transmission_flags(info: ExportInfo, *, structured_replies: bool) -> TransmissionFlag:
    """Return what may be asked of the export (proto.md, "Transmission flags").

    `CAN_MULTI_CONN` always: a device's flush covers what was completed on every connection.
    """
    flag = TransmissionFlag
    flags = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.CAN_MULTI_CONN | flag.SEND_CACHE
    if structured_replies:
        flags |= flag.SEND_DF
    if info.read_only:
        return flags | flag.READ_ONLY
    flags |= flag.SEND_FUA | flag.SEND_TRIM | flag.SEND_WRITE_ZEROES
    return flags | flag.SEND_FAST_ZERO if info.can_fast_zero else flags
