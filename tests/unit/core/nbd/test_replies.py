"""Replies, byte by byte."""

from __future__ import annotations

import errno

import pytest

from twinsite.core import limits
from twinsite.core.nbd import replies

COOKIE = 0x0102030405060708
COOKIE_BYTES = bytes(range(1, 9))
SIMPLE = bytes.fromhex("67446698")
STRUCTURED = bytes.fromhex("668e33ef")


def test_simple_reply() -> None:
    assert replies.simple_reply(COOKIE) == SIMPLE + bytes(4) + COOKIE_BYTES


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (errno.EPERM, 1),
        (errno.EROFS, 1),
        (errno.EACCES, 1),
        (errno.EIO, 5),
        (errno.ENOMEM, 12),
        (errno.EINVAL, 22),
        (errno.ENOSPC, 28),
        (errno.EDQUOT, 28),
        (errno.EFBIG, 28),
        (errno.EOVERFLOW, 75),
        (errno.EOPNOTSUPP, 95),
        (errno.ESHUTDOWN, 108),
        (errno.EBADF, 5),
        (errno.ENODEV, 5),
        (0, 5),
    ],
)
def test_errors(kernel: int, told: int) -> None:
    error = told.to_bytes(4, "big")
    assert replies.simple_error(COOKIE, kernel) == SIMPLE + error + COOKIE_BYTES
    chunk = STRUCTURED + b"\0\1\x80\1" + COOKIE_BYTES + b"\0\0\0\6" + error + b"\0\0"
    assert replies.structured_error(COOKIE, kernel) == chunk


def test_data_header() -> None:
    chunk = STRUCTURED + b"\0\1\0\1" + COOKIE_BYTES + (4096 + 8).to_bytes(4, "big") + (2**40).to_bytes(8, "big")
    assert replies.data_header(COOKIE, 2**40, 4096) == chunk


def test_block_status() -> None:
    chunk = STRUCTURED + b"\0\1\0\5" + COOKIE_BYTES + (4 + 16).to_bytes(4, "big") + b"\0\0\0\1"
    extents = (4096).to_bytes(4, "big") + bytes(4) + (2**32 - 4097).to_bytes(4, "big") + b"\0\0\0\3"
    assert replies.block_status(COOKIE, [(512, 4096, False), (4608, 2**32 - 4097, True)]) == chunk + extents


def test_block_status_leaves_out_extents_past_the_bound() -> None:
    extents = [(offset, 1, bool(offset % 2)) for offset in range(limits.NBD_EXTENTS_MAX + 1)]
    assert len(replies.block_status(COOKIE, extents)) == 24 + limits.NBD_EXTENTS_MAX * 8
