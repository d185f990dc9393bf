"""nbdinfo, nbdcopy and fio against the server."""

from __future__ import annotations

import filecmp
import json
import random
from pathlib import Path

import pytest

from tests.support.nbd_volume import MIB, ServedVolume, run_peer


def make_image(path: Path, size_bytes: int, seed: int) -> None:
    """Write a sparse file with data in odd places and at both ends."""
    generator = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for offset in [0, size_bytes - 777, *(generator.randrange(size_bytes - MIB) for _ in range(20))]:
            file.seek(offset)
            file.write(generator.randbytes(min(generator.randrange(1, MIB), size_bytes - offset)))


def test_nbdinfo_json(volume: ServedVolume) -> None:
    told = json.loads(run_peer("nbdinfo", "--json", volume.uri))
    assert told["protocol"] == "newstyle-fixed"
    assert told["structured"] is True
    (export,) = told["exports"]
    expected = {
        "export-name": "vol",
        "description": "a test volume",
        "export-size": 64 * MIB,
        "contexts": ["base:allocation"],
        "is_read_only": False,
        "can_cache": True,
        "can_df": True,
        "can_flush": True,
        "can_fua": True,
        "can_multi_conn": True,
        "can_trim": True,
        "can_zero": True,
        "block_size_minimum": 1,
        "block_size_preferred": 4096,
        "block_size_maximum": 32 * MIB,
    }
    assert {key: export[key] for key in expected} == expected


def test_nbdinfo_of_a_read_only_volume(read_only_volume: ServedVolume) -> None:
    (export,) = json.loads(run_peer("nbdinfo", "--json", read_only_volume.uri))["exports"]
    writing = ("can_fast_zero", "can_fua", "can_trim", "can_zero")
    assert export["is_read_only"] is True
    assert [export[key] for key in writing] == [False] * len(writing)


def test_nbdinfo_list(volume: ServedVolume) -> None:
    told = json.loads(run_peer("nbdinfo", "--list", "--json", volume.uri.replace("/vol?", "/?")))
    assert [(export["export-name"], export["description"]) for export in told["exports"]] == [("vol", "a test volume")]


def test_nbdinfo_map(volume: ServedVolume) -> None:
    volume.put(MIB, b"\1" * MIB)
    told = json.loads(run_peer("nbdinfo", "--map", "--json", volume.uri))
    extents = [(extent["offset"], extent["length"], extent["type"]) for extent in told]
    assert extents == [(0, MIB, 3), (MIB, MIB, 0), (2 * MIB, 62 * MIB, 3)]


def test_an_unknown_export(volume: ServedVolume) -> None:
    told = run_peer("nbdinfo", volume.uri.replace("/vol?", "/nowhere?"), fails=True)
    assert "export: nowhere" in told
    assert "protocol: newstyle-fixed" in told  # The handshake went on to an answer.


@pytest.mark.parametrize("is_tcp", [False, True], ids=["unix", "tcp"])
def test_nbdcopy_there_and_back(volume: ServedVolume, directory: Path, is_tcp: bool) -> None:
    uri = volume.tcp_uri if is_tcp else volume.uri
    source, back = directory / "source.raw", directory / "back.raw"
    make_image(source, volume.size_bytes, seed=1)
    run_peer("nbdcopy", "--flush", str(source), uri)
    assert filecmp.cmp(source, volume.file, shallow=False)
    run_peer("nbdcopy", uri, str(back))
    assert filecmp.cmp(source, back, shallow=False)
    assert back.stat().st_blocks * 512 < volume.size_bytes  # Holes came through as holes.


@pytest.mark.parametrize("request_bytes", [4096, 1 * MIB, 32 * MIB])
def test_nbdcopy_with_requests_of_any_size(volume: ServedVolume, directory: Path, request_bytes: int) -> None:
    source = directory / "source.raw"
    make_image(source, volume.size_bytes, seed=2)
    copy = ("nbdcopy", f"--request-size={request_bytes}", "--connections=3", "--allocated")
    run_peer(*copy, str(source), volume.uri)
    assert filecmp.cmp(source, volume.file, shallow=False)


def test_fio_verifies_what_it_wrote(volume: ServedVolume) -> None:
    seed = 4
    told = run_peer(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={volume.uri}",
        "--rw=randrw",
        "--bsrange=512-256k",
        "--bs_unaligned",
        "--iodepth=32",
        "--size=48m",
        "--io_size=48m",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--serialize_overlap=1",
        "--fsync=64",
        f"--randseed={seed}",
        "--output-format=json",
    )
    (job,) = json.loads(told[told.index("{") : told.rindex("}") + 1])["jobs"]
    assert job["error"] == 0
    assert job["write"]["total_ios"] > 100
    assert job["read"]["total_ios"] > 100
