"""Every kind of files that a worker's state can lie in keeps the contract of `twinsite.durable_file.Files`."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinsite.durable_file import Files, LogFile, SystemFiles
from twinsite_sim.files import SimFiles


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short temporary directory."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["system", "simulated"])
def files(request: pytest.FixtureRequest, directory: Path) -> Files:
    """Files of each kind."""
    if request.param == "system":
        return SystemFiles()
    simulated = SimFiles(random.Random(1))
    simulated.make_directory(directory)
    return simulated


def content(log: LogFile) -> bytes:
    """Return all that a log holds."""
    with log.view() as view:
        return bytes(view)


def test_a_file_is_replaced_and_removed(files: Files, directory: Path) -> None:
    path = directory / "a" / "b" / "file"
    with pytest.raises(FileNotFoundError):
        files.read(path)
    with pytest.raises(FileNotFoundError):
        files.replace(path, b"nowhere to put it")
    files.make_directory(path.parent)
    files.make_directory(path.parent)
    for text in (b"one", b"", b"three"):
        files.replace(path, text)
        assert files.read(path) == text
    files.remove(path)
    files.remove(path)
    with pytest.raises(FileNotFoundError):
        files.read(path)


def test_a_log_is_written_cut_and_read(files: Files, directory: Path) -> None:
    path = directory / "log"
    with pytest.raises(FileNotFoundError):
        files.open_log(path)
    log = files.create_log(path)
    assert content(log) == b""
    assert log.write([b"head", memoryview(b"body")], 0) == 8
    log.sync()
    assert log.write([b"tail"], 8) == 4
    assert content(log) == b"headbodytail"
    log.truncate(6)
    assert content(log) == b"headbo"
    log.close()
    log.close()
    again = files.open_log(path)
    assert content(again) == b"headbo"
    again.write([b"X"], 6)
    assert content(again) == b"headboX"
    again.close()
    emptied = files.create_log(path)
    assert content(emptied) == b""
    emptied.close()


def test_a_log_that_is_removed_stays_open(files: Files, directory: Path) -> None:
    log = files.create_log(directory / "log")
    log.write([b"content"], 0)
    files.remove(directory / "log")
    assert content(log) == b"content"
    log.close()
    with pytest.raises(FileNotFoundError):
        files.open_log(directory / "log")
