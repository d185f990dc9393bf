"""The handshake: only who knows the key gets in, with a proof that is good once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsite.core.stream.frames import PROTOCOL_VERSION
from twinsite.core.stream.hello import Challenge, Doubt, Hello, Welcome, open_challenge, open_hello, open_welcome, seal
from twinsite.errors import PeerViolation

KEY = bytes.fromhex("ab" * 32)
NONCE = "the other side's nonce"
HELLO = Hello(PROTOCOL_VERSION, "group", 3, 17, [[0, 4096], [2, 512]], "mine")
WELCOME = Welcome(3, "lineage", True, Doubt.NONE, ["old"], [[0, 1, 2]])

Opener = Callable[[dict[str, Any], bytes, str], object]
OPENERS: dict[str, tuple[Opener, Hello | Welcome]] = {
    "hello": (open_hello, HELLO),
    "welcome": (open_welcome, WELCOME),
}
BY_KIND = pytest.mark.parametrize("opener, body", OPENERS.values(), ids=OPENERS)


@BY_KIND
def test_what_was_sealed_opens(opener: Opener, body: Hello | Welcome) -> None:
    assert opener(seal(body, KEY, NONCE), KEY, NONCE) == body


@BY_KIND
def test_another_key_is_refused(opener: Opener, body: Hello | Welcome) -> None:
    with pytest.raises(PeerViolation, match="stream key"):
        opener(seal(body, bytes(32), NONCE), KEY, NONCE)


@BY_KIND
def test_a_recorded_answer_to_another_nonce_is_refused(opener: Opener, body: Hello | Welcome) -> None:
    with pytest.raises(PeerViolation, match="stream key"):
        opener(seal(body, KEY, "an earlier nonce"), KEY, NONCE)


@BY_KIND
def test_no_field_may_change_after_sealing(opener: Opener, body: Hello | Welcome) -> None:
    sealed = seal(body, KEY, NONCE)
    changed: dict[type, Callable[[Any], Any]] = {
        int: lambda v: v + 1,
        bool: lambda v: not v,
        str: lambda v: v + "x",
        list: lambda v: [*v, [9, 9]],
    }
    for name, value in sealed.items():
        with pytest.raises(PeerViolation):
            opener({**sealed, name: changed[type(value)](value)}, KEY, NONCE)


@BY_KIND
def test_every_field_must_be_there_and_of_its_type(opener: Opener, body: Hello | Welcome) -> None:
    sealed = seal(body, KEY, NONCE)
    for name, value in sealed.items():
        with pytest.raises(PeerViolation, match=name):
            opener({key: item for key, item in sealed.items() if key != name}, KEY, NONCE)
        wrongs: list[Any] = [None, 1.5, {}, [value], int(value) if isinstance(value, bool) else b"bytes"]
        for wrong in wrongs:
            with pytest.raises(PeerViolation):
                opener({**sealed, name: wrong}, KEY, NONCE)


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(PeerViolation, match="term"):
        open_hello({**seal(HELLO, KEY, NONCE), "term": True}, KEY, NONCE)


@pytest.mark.parametrize(
    "members", [[0], [[0]], [[0, 1, 2]], [["0", 1]], [[0, 1.0]], [[0, True]], [None], ["ab"], [{"index": 0}]]
)
def test_members_must_be_pairs_of_numbers(members: list[Any]) -> None:
    with pytest.raises(PeerViolation, match="members"):
        open_hello({**seal(HELLO, KEY, NONCE), "members": members}, KEY, NONCE)


def test_a_hello_cannot_be_reflected_as_a_welcome() -> None:
    fields = seal(HELLO, KEY, NONCE)
    with pytest.raises(PeerViolation):
        open_welcome({**seal(WELCOME, KEY, "other"), "proof": fields["proof"]}, KEY, NONCE)


@pytest.mark.parametrize("text", ["\ud800", "ü", "", "x" * 100_000])
@BY_KIND
def test_a_proof_of_any_text_is_only_wrong(opener: Opener, body: Hello | Welcome, text: str) -> None:
    with pytest.raises(PeerViolation, match="stream key"):
        opener({**seal(body, KEY, NONCE), "proof": text}, KEY, NONCE)


def test_a_challenge_opens_and_another_version_is_refused() -> None:
    assert open_challenge({"version": PROTOCOL_VERSION, "nonce": "n"}) == Challenge(PROTOCOL_VERSION, "n")
    can_unpack = {"version": PROTOCOL_VERSION, "nonce": "n", "unpacks": True, "key of a later release": 1}
    assert open_challenge(can_unpack) == Challenge(PROTOCOL_VERSION, "n", unpacks=True)
    assert not open_challenge({**can_unpack, "unpacks": "yes"}).unpacks
    with pytest.raises(PeerViolation, match="same release"):
        open_challenge({"version": PROTOCOL_VERSION + 1, "nonce": "n"})
    for bad in ({}, {"version": PROTOCOL_VERSION}, {"nonce": "n"}, {"version": "1", "nonce": "n"}):
        with pytest.raises(PeerViolation):
            open_challenge(bad)


TEXT = st.text("aé0\ud800", max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*seal(HELLO, KEY, NONCE), *seal(WELCOME, KEY, NONCE)]


@settings(deadline=None, print_blob=True)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_object_raises_nothing_but_a_violation(value: dict[str, Any]) -> None:
    for opener, body in OPENERS.values():
        for candidate in (value, {**seal(body, KEY, NONCE), **value}):
            try:
                opened = opener(candidate, KEY, NONCE)
            except PeerViolation:
                continue
            assert opened == body
