"""The handshake of the stream: who are you, may you, and what do you have?

The secondary opens with a challenge; the primary answers with a hello that proves the group's key over it; it
then sends a welcome with a proof over the primary's nonce and the state of its image. Whatever does not fit raises
`PeerViolation`, and the connection ends before any volume is touched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from twinsite.core.stream.frames import PROTOCOL_VERSION
from twinsite.errors import PeerViolation


@dataclass(frozen=True, slots=True)
class Challenge:
    """The secondary's first words. The nonce is random and used once. `unpacks`: it knows frames of the kind PACKED."""

    version: int
    nonce: str
    unpacks: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """Who the primary is and what it will send. `members` are (index, size in bytes)."""

    version: int
    group_id: str
    term: int
    first_sequence: int
    members: list[list[int]]
    nonce: str


class Doubt(StrEnum):
    """Why an image may lack what was applied to it."""

    NONE = "none"
    RESTARTED = (
        "restarted"  # The machine restarted before everything was durable: what was lost can be seen by reading.
    )
    FLUSH_FAILED = "flush_failed"  # A flush failed: what is read may not be what the disk holds.


@dataclass(frozen=True, slots=True)
class Welcome:
    """The state of the secondary's image.

    `generation` names the image's content lineage; the primary's dirty map is only good for the lineage that it knows.
    `led` names the lineages that this side was the primary of: outside of the extents in `runs`, (member index, first,
    count), its image is the one of those lineages.
    """

    term: int
    generation: str
    consistent: bool
    doubt: Doubt
    led: list[str] = field(default_factory=list)
    runs: list[list[int]] = field(default_factory=list)


def seal(body: Hello | Welcome, key: bytes, nonce: str) -> dict[str, Any]:
    """Return the JSON object of `body` with a proof that its sender knows `key`, bound to the other side's nonce."""
    fields = {name: str(value) if isinstance(value, StrEnum) else value for name, value in asdict(body).items()}
    return {**fields, "proof": _proof(type(body).__name__, fields, key, nonce)}


def open_challenge(value: dict[str, Any]) -> Challenge:
    """Check and return a challenge; it carries no proof."""
    challenge = Challenge(
        version=_take(value, "version", int), nonce=_take(value, "nonce", str), unpacks=value.get("unpacks") is True
    )
    if challenge.version != PROTOCOL_VERSION:
        raise PeerViolation(
            f"the peer speaks stream protocol {challenge.version}, this side {PROTOCOL_VERSION}: "
            "run the same release of Twinsite on both sites"
        )
    return challenge


def open_hello(value: dict[str, Any], key: bytes, nonce: str) -> Hello:
    """Check the proof and the form of a hello and return it."""
    members = _take(value, "members", list)
    if not all(
        isinstance(member, list) and len(member) == 2 and all(type(number) is int for number in member)
        for member in members
    ):
        raise PeerViolation("hello: members are not pairs of numbers")
    hello = Hello(
        version=_take(value, "version", int),
        group_id=_take(value, "group_id", str),
        term=_take(value, "term", int),
        first_sequence=_take(value, "first_sequence", int),
        members=members,
        nonce=_take(value, "nonce", str),
    )
    _check_proof(hello, value, key, nonce)
    return hello


def open_welcome(value: dict[str, Any], key: bytes, nonce: str) -> Welcome:
    """Check the proof and the form of a welcome and return it."""
    doubt, led, runs = _take(value, "doubt", str), _take(value, "led", list), _take(value, "runs", list)
    if doubt not in set(Doubt):
        raise PeerViolation(f"welcome: doubt {doubt!r} is unknown")
    if not all(type(name) is str for name in led):
        raise PeerViolation("welcome: lineages are not names")
    if not all(
        isinstance(run, list) and len(run) == 3 and all(type(number) is int and number >= 0 for number in run)
        for run in runs
    ):
        raise PeerViolation("welcome: runs are not three numbers each")
    welcome = Welcome(
        term=_take(value, "term", int),
        generation=_take(value, "generation", str),
        consistent=_take(value, "consistent", bool),
        doubt=Doubt(doubt),
        led=led,
        runs=runs,
    )
    _check_proof(welcome, value, key, nonce)
    return welcome


def _take(value: dict[str, Any], name: str, kind: type) -> Any:
    item = value.get(name)
    if type(item) is not kind:
        raise PeerViolation(f"handshake: {name!r} is missing or not {kind.__name__}")
    return item


def _check_proof(body: Hello | Welcome, value: dict[str, Any], key: bytes, nonce: str) -> None:
    expected = _proof(type(body).__name__, asdict(body), key, nonce)
    # JSON can spell what UTF-8 cannot, and such a proof is only wrong.
    given = _take(value, "proof", str).encode(errors="surrogatepass")
    if not hmac.compare_digest(expected.encode(), given):
        raise PeerViolation("the peer does not know this group's stream key")


def _proof(kind: str, fields: dict[str, Any], key: bytes, nonce: str) -> str:
    text = json.dumps([kind, nonce, fields], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
