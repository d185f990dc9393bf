"""The commands that work on the machine itself, without the API: `twinsite kept` and `twinsite rehearse`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run, ok
from twinsite.core.limits import BLOCK_BYTES
from twinsite.core.tracking.undo import UndoHeader, encode_header, encode_record

OLD = b"what only the former primary had".ljust(BLOCK_BYTES, b".")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A log that is kept of one volume: a block of data, and one of zeros."""
    log = tmp_path / "kept-20260101T000000Z.log"
    header = UndoHeader("", 1_767_225_600.0, {"0": 4 * BLOCK_BYTES}, {"0": "v-1"})
    records = [encode_record(0, 1, OLD), encode_record(0, 3, None)]
    log.write_bytes(b"".join([encode_header(header), *(part for record in records for part in record)]))
    return log


def test_what_is_kept_is_listed_for_people_and_for_programs(run: Run, kept: Path) -> None:
    lines = ok(run("kept", "list", str(kept.parent))).output.splitlines()
    assert lines == [f"{kept}  overwritten from 2026-01-01 00:00:00 UTC on", "  volume v-1: 128.0 KiB"]
    listed = json.loads(ok(run("kept", "list", str(kept.parent), "-o", "json")).output)
    volumes = [{"id": "v-1", "bytes": 2 * BLOCK_BYTES}]
    assert listed == [{"log": str(kept), "overwritten_from": "2026-01-01T00:00:00.000000", "volumes": volumes}]


def test_what_is_kept_is_put_back_and_discarded(run: Run, kept: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.raw"
    copy.write_bytes(b"n" * 4 * BLOCK_BYTES)
    assert ok(run("kept", "put-back", str(kept), "v-1", str(copy))).output == f"128.0 KiB put back into {copy}\n"
    new = b"n" * BLOCK_BYTES
    assert copy.read_bytes() == new + OLD + new + bytes(BLOCK_BYTES)
    put = json.loads(ok(run("kept", "put-back", str(kept), "v-1", str(copy), "-o", "json")).output)
    assert put == {"copy": str(copy), "bytes": 2 * BLOCK_BYTES}
    assert run("kept", "discard", str(kept)).status == 2
    assert kept.exists()
    gone = json.loads(ok(run("kept", "discard", str(kept), "--yes", "-o", "json")).output)
    assert (gone, kept.exists()) == ({"log": str(kept)}, False)


def test_a_rehearsed_loss_tells_programs_what_was_done(run: Run, tmp_path: Path) -> None:
    (tmp_path / "az1" / "pool").mkdir(parents=True)
    (tmp_path / "az1" / "run").mkdir()
    data = ("--data", str(tmp_path))
    refused = run("rehearse", "lose", "az1", *data)
    assert (refused.status, "no 'twinsite up' runs" in refused.errors) == (2, True)
    assert json.loads(ok(run("rehearse", "return", "az1", "-o", "json", *data)).output) == {
        "site": "az1",
        "was_lost": False,
    }
