"""A controller whose disk is full: told as what it is, and over when there is space again."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tests.support.controller import make_settings, open_site
from tests.support.site_fixtures import Prepared
from tests.support.stores import needs_root, run
from twinsite.control.database import storage_trouble

VOLUME = {"volume": {"size": 1, "availability_zone": "az1", "description": "x" * 255}}
CALLS_MAX = 2000


@pytest.fixture
def small_disk(prepared: Prepared) -> Iterator[Path]:
    """A file system with a prepared data directory and little room beside it."""
    mount = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    run("mount", "-t", "tmpfs", "-o", "size=2m", "twinsite-test", str(mount))
    try:
        shutil.copytree(prepared.directory, mount / "data")
        yield mount
    finally:
        run("umount", str(mount))
        mount.rmdir()


@needs_root
async def test_a_full_disk_is_a_503_that_says_so_and_ends_with_it(small_disk: Path, prepared: Prepared) -> None:
    async with open_site(make_settings(small_disk / "data"), prepared.token) as site:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        for _ in range(CALLS_MAX):
            answer = await site.call("POST", "/volumes", VOLUME)
            if answer.status_code != 202:
                break
        assert answer.status_code == 503, answer.text
        assert answer.json()["serviceUnavailable"]["message"].startswith("EVS.5503: ")
        assert "its disk is full" in answer.text
        assert answer.headers["retry-after"]
        assert (await site.call("GET", "/volumes")).status_code == 200
        filler.unlink()
        assert (await site.call("POST", "/volumes", VOLUME)).status_code == 202


def test_what_is_no_trouble_of_the_disk_stays_a_bug() -> None:
    assert storage_trouble(DBAPIError("s", {}, Exception("no such table: volumes"))) is None
    assert storage_trouble(DBAPIError("s", {}, Exception("disk I/O error"))) is not None


async def test_the_database_is_its_owners_alone(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.directory, tmp_path / "data")
    files = list((tmp_path / "data" / "controller").glob("twinsite.db*"))
    for file in files:
        file.chmod(0o644)
    async with open_site(make_settings(tmp_path / "data"), prepared.token) as site:
        assert (await site.call("POST", "/volumes", VOLUME)).status_code == 202
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in site.settings.controller_dir.glob("*.db*")}
    assert modes == dict.fromkeys(("twinsite.db", "twinsite.db-wal", "twinsite.db-shm"), 0o600)
