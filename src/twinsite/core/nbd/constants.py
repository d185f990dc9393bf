"""Numbers of the NBD protocol, named as in doc/proto.md of the NBD project, without the prefix."""

from __future__ import annotations

from enum import IntEnum, IntFlag

GREETING_MAGIC = 0x4E42444D41474943
"""`NBDMAGIC`, the first eight bytes of a connection."""
OPTION_MAGIC = 0x49484156454F5054
"""`IHAVEOPT`, in the greeting and before each option."""
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

EXPORT_NAME_PADDING_BYTES = 124
"""Zeros after the answer to EXPORT_NAME, for a client that did not decline them."""
STRING_BYTES_MAX = 4096
"""Longest name or other string ("Values", "String")."""
REQUEST_BYTES = 28
"""Size of a request without its payload."""

CONTEXT_BASE = "base:"
CONTEXT_ALLOCATION = "base:allocation"
CONTEXT_ALLOCATION_ID = 1
"""The number that stands for `base:allocation` in replies; ours to choose."""


class HandshakeFlag(IntFlag):
    """Flags of the greeting, and of the client's answer, which has the same bits."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class TransmissionFlag(IntFlag):
    """What an export can do, told at the end of the handshake."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


class Option(IntEnum):
    """Options of the handshake."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    PEEK_EXPORT = 4
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class OptionReply(IntEnum):
    """Types of reply to an option; errors have bit 31."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_PLATFORM = 0x80000004
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_BLOCK_SIZE_REQD = 0x80000008
    ERR_TOO_BIG = 0x80000009
    ERR_EXT_HEADER_REQD = 0x8000000A


class Info(IntEnum):
    """Kinds of information about an export, in INFO and GO."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(IntEnum):
    """Commands of the transmission phase."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """Flags of a command."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4
    PAYLOAD_LEN = 1 << 5


class ReplyFlag(IntFlag):
    """Flags of a chunk of a structured reply."""

    DONE = 1 << 0


class ReplyType(IntEnum):
    """Types of chunk of a structured reply; errors have bit 15."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


class BlockState(IntFlag):
    """What `base:allocation` says of a range."""

    HOLE = 1 << 0
    ZERO = 1 << 1


class NbdError(IntEnum):
    """The errors that a reply can carry; their values are those of Linux."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108
