"""The handshake: every option, every refusal, every way to break it."""

from __future__ import annotations

import struct

import pytest

from tests.support.nbd import (
    FIXED,
    FIXED_WITH_ZEROES,
    GREETING_BYTES,
    SIZE_BYTES,
    OptionAnswer,
    converse,
    go,
    meta,
    option,
    option_answers,
    request,
    text,
)
from twinsite.core import limits
from twinsite.core.nbd.constants import Command, Info, Option, OptionReply, TransmissionFlag
from twinsite.core.nbd.export import ExportInfo, transmission_flags
from twinsite.core.nbd.handshake import Aborted, Negotiated

VOLUME = ExportInfo("vol", "a volume", SIZE_BYTES, can_fast_zero=True)
OTHER = ExportInfo("other", "", 512, read_only=True)
ONE = {"vol": VOLUME}
TWO = {"vol": VOLUME, "other": OTHER}

STRUCTURED = option(Option.STRUCTURED_REPLY)
STRUCTURED_ANSWER = OptionAnswer(Option.STRUCTURED_REPLY, OptionReply.ACK, b"")


def answers(data: bytes, exports: dict[str, ExportInfo] | None = None) -> list[OptionAnswer]:
    """Return the replies to options after a usual start."""
    said = converse(FIXED + data, exports=exports if exports is not None else ONE)
    assert said.violation is None
    return option_answers(said.output[GREETING_BYTES:])


def export_info(number: int, size_bytes: int, flags: int) -> OptionAnswer:
    """Return the reply that every INFO and GO begins with."""
    return OptionAnswer(number, OptionReply.INFO, struct.pack("!HQH", Info.EXPORT, size_bytes, flags))


def test_greeting() -> None:
    assert converse(b"").output == b"NBDMAGICIHAVEOPT\x00\x03"


@pytest.mark.parametrize("name", ["vol", ""])
@pytest.mark.parametrize(("flags", "zeros"), [(FIXED, 0), (FIXED_WITH_ZEROES, 124), (bytes(4), 124)])
def test_export_name(name: str, flags: bytes, zeros: int) -> None:
    said = converse(flags + option(Option.EXPORT_NAME, name.encode()), exports=ONE)
    expected_flags = int(transmission_flags(VOLUME, structured_replies=False))
    assert said.output[GREETING_BYTES:] == struct.pack("!QH", SIZE_BYTES, expected_flags) + bytes(zeros)
    assert said.outcome == Negotiated(VOLUME, structured_replies=False, block_status=False)


def test_transmission_flags() -> None:
    flag = TransmissionFlag
    common = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.CAN_MULTI_CONN | flag.SEND_CACHE
    writing = flag.SEND_FUA | flag.SEND_TRIM | flag.SEND_WRITE_ZEROES
    slow = ExportInfo("slow", "", 512)
    assert transmission_flags(OTHER, structured_replies=False) == common | flag.READ_ONLY
    assert transmission_flags(OTHER, structured_replies=True) == common | flag.READ_ONLY | flag.SEND_DF
    assert transmission_flags(slow, structured_replies=False) == common | writing
    assert transmission_flags(VOLUME, structured_replies=True) == common | writing | flag.SEND_DF | flag.SEND_FAST_ZERO


@pytest.mark.parametrize("number", [Option.INFO, Option.GO])
def test_information_that_was_asked_for(number: Option) -> None:
    wanted = (Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE, 99)
    block_sizes = struct.pack("!HIII", Info.BLOCK_SIZE, 1, 4096, 32 * 1024 * 1024)
    flags = int(transmission_flags(VOLUME, structured_replies=False))
    assert answers(go("", *wanted, number=number)) == [
        export_info(number, SIZE_BYTES, flags),
        OptionAnswer(number, OptionReply.INFO, struct.pack("!H", Info.NAME) + b"vol"),
        OptionAnswer(number, OptionReply.INFO, struct.pack("!H", Info.DESCRIPTION) + b"a volume"),
        OptionAnswer(number, OptionReply.INFO, block_sizes),
        OptionAnswer(number, OptionReply.ACK, b""),
    ]


def test_go_ends_the_handshake_and_leaves_what_follows() -> None:
    said = converse(FIXED + go("vol") + request(Command.FLUSH, cookie=7), exports=ONE)
    assert said.outcome == Negotiated(VOLUME, structured_replies=False, block_status=False)
    assert [r.cookie for r in said.executed] == [7]


def test_info_does_not_end_the_handshake() -> None:
    assert converse(FIXED + go("vol", number=Option.INFO), exports=ONE).outcome is None


def test_list() -> None:
    assert answers(option(Option.LIST), TWO) == [
        OptionAnswer(Option.LIST, OptionReply.SERVER, text("vol") + b"a volume"),
        OptionAnswer(Option.LIST, OptionReply.SERVER, text("other")),
        OptionAnswer(Option.LIST, OptionReply.ACK, b""),
    ]


def test_abort() -> None:
    said = converse(FIXED + option(Option.ABORT) + b"whatever follows", exports=ONE)
    assert option_answers(said.output[GREETING_BYTES:]) == [OptionAnswer(Option.ABORT, OptionReply.ACK, b"")]
    assert said.outcome == Aborted()


LIST_META, SET_META = Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT
LISTED = OptionAnswer(LIST_META, OptionReply.META_CONTEXT, bytes(4) + b"base:allocation")
SELECTED = OptionAnswer(SET_META, OptionReply.META_CONTEXT, b"\0\0\0\1base:allocation")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (meta(LIST_META, "vol"), LISTED),
        (meta(LIST_META, "vol", "base:"), LISTED),
        (meta(LIST_META, "vol", "x-other:", "base:allocation"), LISTED),
        (meta(LIST_META, "vol", "x-other:thing"), None),
        (meta(SET_META, "vol"), None),
        (meta(SET_META, "vol", "base:"), None),  # Only LIST takes a whole namespace.
        (meta(SET_META, "vol", "base:allocation"), SELECTED),
        (meta(SET_META, "", "base:allocation", "base:unknown"), SELECTED),
    ],
)
def test_meta_contexts(sent: bytes, expected: OptionAnswer | None) -> None:
    number = struct.unpack_from("!I", sent, 8)[0]
    found = [expected] if expected is not None else []
    assert answers(STRUCTURED + sent) == [STRUCTURED_ANSWER, *found, OptionAnswer(number, OptionReply.ACK, b"")]


SELECT = meta(SET_META, "vol", "base:allocation")


@pytest.mark.parametrize(
    ("options", "structured", "block_status"),
    [
        (b"", False, False),
        (STRUCTURED, True, False),
        (STRUCTURED + STRUCTURED + SELECT, True, True),
        (SELECT + STRUCTURED, True, False),  # Refused, because it came first.
        (STRUCTURED + SELECT + meta(SET_META, "vol"), True, False),  # Selecting anew replaces.
        (STRUCTURED + SELECT + meta(SET_META, "nowhere", "base:allocation"), True, False),
        (STRUCTURED + meta(SET_META, "other", "base:allocation"), True, False),  # For another export.
        (STRUCTURED + SELECT + meta(LIST_META, "other"), True, True),
    ],
)
@pytest.mark.parametrize("end", [go("vol"), option(Option.EXPORT_NAME, b"vol")])
def test_what_is_agreed(options: bytes, structured: bool, block_status: bool, end: bytes) -> None:
    assert converse(FIXED + options + end, exports=TWO).outcome == Negotiated(VOLUME, structured, block_status)


LONG = "x" * 4097
MANY_QUERIES = ["base:allocation"] * (limits.NBD_META_CONTEXTS_MAX + 1)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (option(Option.STARTTLS), OptionReply.ERR_UNSUP),
        (option(Option.EXTENDED_HEADERS), OptionReply.ERR_UNSUP),
        (option(Option.PEEK_EXPORT), OptionReply.ERR_UNSUP),
        (option(0), OptionReply.ERR_UNSUP),
        (option(0xFFFFFFFF, b"anything"), OptionReply.ERR_UNSUP),
        (option(Option.LIST, b"x"), OptionReply.ERR_INVALID),
        (option(Option.STRUCTURED_REPLY, b"x"), OptionReply.ERR_INVALID),
        (option(Option.GO), OptionReply.ERR_INVALID),
        (option(Option.GO, text("vol")), OptionReply.ERR_INVALID),
        (option(Option.GO, text("vol") + b"\0\2\0\0"), OptionReply.ERR_INVALID),  # Says two, brings one.
        (option(Option.GO, text("vol") + b"\0\0x"), OptionReply.ERR_INVALID),
        (option(Option.GO, b"\xff\xff\xff\xffvol\0\0"), OptionReply.ERR_TOO_BIG),
        (option(Option.GO, b"\0\0\0\x08vol\0\0"), OptionReply.ERR_INVALID),
        (option(Option.GO, b"\0\0\0\2\xff\xfe\0\0"), OptionReply.ERR_INVALID),  # Not UTF-8.
        (go(LONG), OptionReply.ERR_TOO_BIG),
        (go("nowhere"), OptionReply.ERR_UNKNOWN),
        (go(""), OptionReply.ERR_UNKNOWN),  # The default export, and there are two.
        (go("nowhere", number=Option.INFO), OptionReply.ERR_UNKNOWN),
        (SELECT, OptionReply.ERR_INVALID),
        (meta(LIST_META, "vol"), OptionReply.ERR_INVALID),
        (option(Option.GO, bytes(limits.NBD_OPTION_BYTES_MAX + 1)), OptionReply.ERR_TOO_BIG),
        (option(99, bytes(3 * 1024 * 1024)), OptionReply.ERR_TOO_BIG),
    ],
)
def test_refused_options_leave_the_handshake_going(sent: bytes, error: OptionReply) -> None:
    refused, *after = answers(sent + option(Option.LIST), TWO)
    assert (refused.option, refused.reply) == (struct.unpack_from("!I", sent, 8)[0], error)
    assert refused.data.decode().isprintable()
    assert [answer.reply for answer in after] == [OptionReply.SERVER, OptionReply.SERVER, OptionReply.ACK]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (meta(SET_META, "nowhere", "base:allocation"), OptionReply.ERR_UNKNOWN),
        (meta(SET_META, "vol", *MANY_QUERIES), OptionReply.ERR_TOO_BIG),
        (meta(SET_META, "vol", LONG), OptionReply.ERR_TOO_BIG),
        (option(SET_META, text("vol") + b"\0\0\0\2" + text("base:allocation")), OptionReply.ERR_INVALID),
        (option(SET_META, text("vol") + b"\0\0\0\0" + b"x"), OptionReply.ERR_INVALID),
    ],
)
def test_refused_meta_contexts(sent: bytes, error: OptionReply) -> None:
    assert [answer.reply for answer in answers(STRUCTURED + sent, TWO)] == [OptionReply.ACK, error]


def test_no_exports() -> None:
    assert [a.reply for a in answers(option(Option.LIST) + go(""), {})] == [OptionReply.ACK, OptionReply.ERR_UNKNOWN]


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\0\4",  # A client flag that was not offered.
        FIXED + b"IHAVEOPS" + bytes(8),
        FIXED + bytes(16),
        bytes(4) + go("vol"),  # GO without fixed newstyle.
        FIXED + option(Option.EXPORT_NAME, b"nowhere"),
        FIXED + option(Option.EXPORT_NAME, b"\xff\xfe"),
        FIXED + struct.pack("!QII", 0x49484156454F5054, Option.EXPORT_NAME, 4097),
        FIXED + option(Option.LIST) * limits.NBD_OPTIONS_MAX + option(Option.ABORT),
        FIXED + option(77, bytes(70_000)) * (limits.NBD_OPTIONS_MAX + 1),
    ],
)
def test_violations(sent: bytes) -> None:
    assert converse(sent, exports=ONE).violation is not None


def test_most_options_that_are_allowed() -> None:
    said = converse(FIXED + option(Option.LIST) * (limits.NBD_OPTIONS_MAX - 1) + go("vol"), exports=ONE)
    assert isinstance(said.outcome, Negotiated)


def test_a_violation_is_reported_after_the_answers_to_what_came_before() -> None:
    said = converse(FIXED + option(Option.STRUCTURED_REPLY) + bytes(16), exports=ONE)
    assert said.violation is not None
    assert option_answers(said.output[GREETING_BYTES:]) == [STRUCTURED_ANSWER]
