"""Whatever a client sends, however it is cut: the same result, no error but `PeerViolation`, bounded memory.

`corpus/` holds whole conversations, one a file, as a client's bytes from the first on; every one is replayed here. A
failure that a fuzzer finds is added there.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nbd import (
    DISCONNECT,
    FIXED,
    GREETING_BYTES,
    SIZE_BYTES,
    Conversation,
    agreed,
    converse,
    go,
    meta,
    option,
    option_answers,
    request,
)
from twinsite.core import limits
from twinsite.core.nbd.constants import Command, CommandFlag, Info, Option
from twinsite.core.nbd.export import ExportInfo
from twinsite.core.nbd.handshake import Negotiated

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
EXPORTS = {"vol": agreed().export, "other": ExportInfo("other", "", 512, read_only=True)}
SMALL_BUFFER_BYTES = 70 * 1024
"""Room for the longest option, and little more: bytes move in it often."""
SMALL_PIECE_BYTES = 32
SMALL_ALIGN_BYTES = 8
ANSWER_BYTES_MAX = 400
"""More than all answers to one option together, of two exports with short names."""

names = st.sampled_from(["vol", "other", "", "nowhere", "x" * 5000])
flags = st.one_of(st.just(0), st.sampled_from(list(CommandFlag)).map(int), st.integers(0, 0xFFFF))
offsets = st.one_of(
    st.integers(0, SIZE_BYTES + 8192),
    st.sampled_from([0, SIZE_BYTES - 1, SIZE_BYTES, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
lengths = st.one_of(st.integers(0, 8192), st.sampled_from([0, SIZE_BYTES, 2**25, 2**25 + 1, 2**32 - 1]))
options = st.one_of(
    st.builds(go, names, st.sampled_from(list(Info))),
    st.builds(lambda name: go(name, number=Option.INFO), names),
    st.builds(
        meta,
        st.sampled_from([Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT]),
        names,
        st.sampled_from(["base:", "base:allocation", "x-y:z", "none", ""]),
    ),
    st.sampled_from([Option.LIST, Option.STRUCTURED_REPLY, Option.STARTTLS, Option.ABORT]).map(option),
    st.builds(option, st.integers(0, 2**32 - 1), st.binary(max_size=64)),
    names.map(lambda name: option(Option.EXPORT_NAME, name.encode())),
)
requests = st.one_of(
    st.builds(
        lambda command, cookie, offset, length, flag: request(command, cookie, offset, length, flags=flag),
        st.sampled_from([c for c in Command if c != Command.WRITE]),
        st.integers(0, 2**64 - 1),
        offsets,
        lengths,
        flags,
    ),
    st.builds(
        lambda cookie, offset, payload, flag: request(Command.WRITE, cookie, offset, flags=flag, payload=payload),
        st.integers(0, 2**64 - 1),
        offsets,
        st.binary(max_size=300),
        flags,
    ),
    st.builds(request, st.integers(0, 0xFFFF)),
    st.just(DISCONNECT),
)
conversations = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda start, before, way, after, rest: start + b"".join(before) + way + b"".join(after) + rest,
        st.sampled_from([FIXED, FIXED, FIXED, b"\0\0\0\0", b"\0\0\0\1"]),
        st.lists(options, max_size=5),
        st.sampled_from([go("vol"), go("other"), b""]),
        st.lists(requests, max_size=12),
        st.binary(max_size=40),
    ),
)
cuts = st.lists(st.integers(0, 3000), max_size=20)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short writes come in pieces too."""
    monkeypatch.setattr(limits, "NBD_PIECE_BYTES_MIN", SMALL_PIECE_BYTES)
    monkeypatch.setattr(limits, "NBD_PIECE_ALIGN_BYTES", SMALL_ALIGN_BYTES)


def converse_cut(data: bytes, positions: list[int]) -> Conversation:
    """Hold a conversation in a small buffer."""
    return converse(
        data, [min(position, len(data)) for position in positions], exports=EXPORTS, capacity=SMALL_BUFFER_BYTES
    )


def check(said: Conversation) -> None:
    """Assert what holds of every conversation."""
    assert len(said.output) <= GREETING_BYTES + limits.NBD_OPTIONS_MAX * ANSWER_BYTES_MAX
    if not isinstance(said.outcome, Negotiated):
        option_answers(said.output[GREETING_BYTES:])
        assert not said.executed
        return
    export = said.outcome.export
    for request_ in said.executed:
        assert request_.offset + request_.length <= export.size_bytes
        assert len(request_.payload) == (request_.length if request_.command == Command.WRITE else 0)
        assert not export.read_only or request_.command not in {Command.WRITE, Command.TRIM, Command.WRITE_ZEROES}


@given(data=conversations, positions=cuts)
@settings(deadline=None, max_examples=400, print_blob=True)
def test_the_result_does_not_depend_on_how_the_bytes_are_cut(data: bytes, positions: list[int]) -> None:
    whole = converse_cut(data, [])
    check(whole)
    assert converse_cut(data, positions) == whole


@given(data=conversations)
@settings(deadline=None, max_examples=100, print_blob=True)
def test_byte_by_byte(data: bytes) -> None:
    data = data[:2000]
    assert converse_cut(data, list(range(len(data)))) == converse_cut(data, [])


@given(data=st.binary(max_size=4096), position=st.integers(0, 4096))
@settings(deadline=None, max_examples=200, print_blob=True)
def test_any_bytes_after_the_handshake(data: bytes, position: int) -> None:
    data = FIXED + go("vol") + data
    assert converse_cut(data, [position]) == converse_cut(data, [])


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 20


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    data = path.read_bytes()
    whole = converse_cut(data, [])
    check(whole)
    for step in (1, 7, 28, 4096):
        assert converse_cut(data, list(range(0, len(data), step))) == whole
