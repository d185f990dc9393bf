"""qemu-img and qemu-io against the server."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.support.nbd_volume import MIB, ServedVolume, run_peer


def qemu_io(uri: str, *commands: str, fails: bool = False) -> str:
    """Run commands of qemu-io in order."""
    arguments = [argument for command in commands for argument in ("-c", command)]
    return run_peer("qemu-io", "-f", "raw", *arguments, uri, fails=fails)


def test_info(volume: ServedVolume) -> None:
    told = json.loads(run_peer("qemu-img", "info", "--output=json", "-f", "raw", volume.uri))
    assert told["virtual-size"] == volume.size_bytes


@pytest.mark.parametrize("is_tcp", [False, True], ids=["unix", "tcp"])
def test_convert_there_and_back_and_compare(volume: ServedVolume, directory: Path, is_tcp: bool) -> None:
    uri = volume.tcp_uri if is_tcp else volume.uri
    source, back = directory / "source.raw", directory / "back.qcow2"
    data = random.Random(5).randbytes(3 * MIB + 512)
    source.write_bytes(data)
    os.truncate(source, volume.size_bytes)
    run_peer("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(source), uri)
    assert "identical" in run_peer("qemu-img", "compare", "-f", "raw", "-F", "raw", str(source), uri)
    run_peer("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, str(back))
    assert "identical" in run_peer("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(back), str(source))
    volume.put(2 * MIB, b"different")
    assert "mismatch" in run_peer("qemu-img", "compare", "-f", "raw", "-F", "raw", str(source), uri, fails=True)


def test_map(volume: ServedVolume) -> None:
    volume.put(MIB, b"\1" * MIB)
    told = json.loads(run_peer("qemu-img", "map", "--output=json", "-f", "raw", volume.uri))
    assert [(e["start"], e["length"], e["data"], e["zero"]) for e in told] == [
        (0, MIB, False, True),
        (MIB, MIB, True, False),
        (2 * MIB, 62 * MIB, False, True),
    ]


def test_write_zeroes_discard_fua_flush(volume: ServedVolume) -> None:
    qemu_io(
        volume.uri,
        "write -P 7 0 16M",
        "write -f -P 9 512 512",
        "write -z 1M 1M",
        "write -z -u 2M 8M",
        "write -z -f 10M 512",
        "discard 12M 1M",
        "flush",
        "read -P 7 0 512",
        "read -P 9 512 512",
        "read -P 0 1M 9M",
        "read -P 0 10M 512",
        "read -P 7 11M 1M",
        "read -P 0 12M 1M",
        "read -P 7 13M 3M",
    )
    assert volume.content(512, 512) == b"\x09" * 512
    assert volume.file.stat().st_blocks * 512 <= 8 * MIB  # 9 MiB of the 16 are holes.


def test_unaligned_and_vectored(volume: ServedVolume) -> None:
    qemu_io(
        volume.uri, "write -P 1 1 3", "writev -P 2 100 13 1 511", "read -P 1 1 3", "read -P 2 100 525", "read -P 0 0 1"
    )
    assert volume.content(0, 5) == b"\0\1\1\1\0"


def test_many_requests_at_once(volume: ServedVolume) -> None:
    writes = [f"aio_write -P {index} {index}M 1M" for index in range(1, 33)]
    reads = [f"aio_read -P {index} {index}M 1M" for index in range(1, 33)]
    told = qemu_io(volume.uri, *writes, "aio_flush", *reads, "aio_flush")
    assert "verification failed" not in told
    assert volume.content(32 * MIB, MIB) == bytes([32]) * MIB


def test_writing_to_a_read_only_volume(read_only_volume: ServedVolume) -> None:
    qemu_io(read_only_volume.uri, "write 0 512", fails=True)
    run_peer("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 64M", read_only_volume.uri)
    assert read_only_volume.content(0, 512) == bytes(512)
