"""Replies of the transmission phase as bytes.

With structured replies agreed, a read, a block status and every error are answered with a structured reply of one
chunk; everything else keeps the simple reply, which is shorter and allowed.

Source: doc/proto.md of the NBD project, "Simple reply message", "Structured reply types" and "Error values".
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from twinsite.core import limits
from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import BlockState, NbdError, ReplyFlag, ReplyType

_pack_simple = struct.Struct("!IIQ").pack
_pack_data_chunk = struct.Struct("!IHHQIQ").pack
_pack_error_chunk = struct.Struct("!IHHQIIH").pack
_pack_status_chunk = struct.Struct("!IHHQII").pack
_pack_extent = struct.Struct("!II").pack

_SIMPLE_MAGIC = constants.SIMPLE_REPLY_MAGIC
_STRUCTURED_MAGIC = constants.STRUCTURED_REPLY_MAGIC
_DONE = int(ReplyFlag.DONE)
_DATA = int(ReplyType.OFFSET_DATA)
_ERROR = int(ReplyType.ERROR)
_STATUS = int(ReplyType.BLOCK_STATUS)
_OFFSET_BYTES = 8
_ERROR_BYTES = 6
_CONTEXT_ID_BYTES = 4
_EXTENT_BYTES = 8
_HOLE_STATE = int(BlockState.HOLE | BlockState.ZERO)

_ERRORS = {int(error): int(error) for error in NbdError} | {
    errno.EROFS: int(NbdError.EPERM),
    errno.EACCES: int(NbdError.EPERM),
    errno.EDQUOT: int(NbdError.ENOSPC),
    errno.EFBIG: int(NbdError.ENOSPC),
}


def simple_reply(cookie: int) -> bytes:
    """Return a success without data, or the header of a read's data when structured replies are not agreed."""
    return _pack_simple(_SIMPLE_MAGIC, 0, cookie)


def simple_error(cookie: int, errno_value: int) -> bytes:
    """Return a failure with a kernel errno, when structured replies are not agreed."""
    return _pack_simple(_SIMPLE_MAGIC, _ERRORS.get(errno_value, NbdError.EIO), cookie)


def structured_error(cookie: int, errno_value: int) -> bytes:
    """Return a failure with a kernel errno, when structured replies are agreed."""
    error = _ERRORS.get(errno_value, NbdError.EIO)
    return _pack_error_chunk(_STRUCTURED_MAGIC, _DONE, _ERROR, cookie, _ERROR_BYTES, error, 0)


def data_header(cookie: int, offset: int, length: int) -> bytes:
    """Return what goes before the `length` bytes read at `offset`, when structured replies are agreed."""
    return _pack_data_chunk(_STRUCTURED_MAGIC, _DONE, _DATA, cookie, length + _OFFSET_BYTES, offset)


def block_status(cookie: int, extents: Sequence[tuple[int, int, bool]]) -> bytes:
    """Return the allocation of a range: consecutive extents as offset, length and whether it is a hole.

    At least one; those past `limits.NBD_EXTENTS_MAX` are left out, which the protocol allows.
    """
    assert extents
    extents = extents[: limits.NBD_EXTENTS_MAX]
    length = _CONTEXT_ID_BYTES + len(extents) * _EXTENT_BYTES
    header = _pack_status_chunk(_STRUCTURED_MAGIC, _DONE, _STATUS, cookie, length, constants.CONTEXT_ALLOCATION_ID)
    return header + b"".join(_pack_extent(length, _HOLE_STATE if is_hole else 0) for _, length, is_hole in extents)
