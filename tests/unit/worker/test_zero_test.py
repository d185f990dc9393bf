"""Which memory is zeros."""

from __future__ import annotations

import pytest

from twinsite.worker.zero_test import is_zero

LENGTHS = [*range(1, 200), 4096, 65_536, 65_536 + 512]


@pytest.mark.parametrize("start", [0, 1, 64])
def test_zeros_are_zeros_wherever_they_begin(start: int) -> None:
    for length in LENGTHS:
        memory = bytearray(b"\xff" * start + bytes(length) + b"\xff")
        assert is_zero(memoryview(memory)[start : start + length]), length


def test_one_byte_anywhere_is_found() -> None:
    for length in LENGTHS:
        for place in {0, 1, 63, 64, 65, length // 2, length - 2, length - 1} & set(range(length)):
            memory = bytearray(length)
            memory[place] = 1
            assert not is_zero(memoryview(memory)), (length, place)


def test_the_same_content_in_every_line_is_not_zeros() -> None:
    assert not is_zero(memoryview(bytearray(b"\x01" * 4096)))


def test_no_bytes_are_zeros() -> None:
    assert is_zero(memoryview(bytearray()))
