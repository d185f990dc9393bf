"""The examples and tables of docs/wire-protocol.md are what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from twinsite.core.stream.frames import HEADER_BYTES, SEQUENCED, Frame, Kind, decode, encode_header
from twinsite.core.stream.hello import Hello, open_hello, seal

TEXT = (Path(__file__).parents[4] / "docs" / "wire-protocol.md").read_text()


def test_every_kind_is_listed_with_its_number_and_whether_it_takes_a_place_in_the_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| [\w ]+ \| .*? \| (yes|no|answers) \|", TEXT, re.MULTILINE)
    listed = {name: (int(number), sequenced == "yes") for name, number, sequenced in rows}
    assert listed == {kind.name: (int(kind), kind in SEQUENCED) for kind in Kind}


def test_the_header_has_the_size_that_the_table_adds_up_to() -> None:
    fields = [(int(at), int(size)) for at, size in re.findall(r"^\| (\d+) \| (\d+) \| \w+ \|", TEXT, re.MULTILINE)]
    position = 0
    for at, size in fields:
        assert at == position
        position += size
    assert position == HEADER_BYTES


def test_the_example_frames_are_those_of_the_codec() -> None:
    block = TEXT.split("```")[1]
    data = bytes.fromhex("".join(block.split()))
    payload = b"hello"
    write = encode_header(Kind.WRITE, 0, 1, len(payload), 42, 4096, payload) + payload
    assert data == write + encode_header(Kind.ACK, 0, 0, 0, 42, 0)
    frames: list[Frame] = []
    assert decode(memoryview(data), 0, len(data), frames) == len(data)


def test_the_example_hello_proves_the_key() -> None:
    hello = Hello(2, "11111111-2222-4333-8444-555555555555", 1, 1, [[0, 1073741824], [1, 1073741824]], "22" * 16)
    key, nonce = bytes.fromhex("ab" * 32), "11" * 16
    sealed = seal(hello, key, nonce)
    assert open_hello(sealed, key, nonce) == hello
    assert f'"proof": "{sealed["proof"]}"' in TEXT
