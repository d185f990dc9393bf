"""The demo's own Twinsite: what it says when it cannot run, and that it removes its directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from twinsite.demo import installation as installation_module
from twinsite.demo.errors import DemoFailed
from twinsite.demo.installation import DIRECTORY_LENGTH_MAX, Installation, temporary_directory
from twinsite.demo.narrator import Narrator


def test_the_directory_is_removed_also_after_an_error() -> None:
    kept: list[Path] = []
    with pytest.raises(RuntimeError), temporary_directory() as directory:
        kept.append(directory)
        (directory / "file").write_text("x")
        raise RuntimeError
    assert not kept[0].exists()


def test_a_temporary_directory_with_a_long_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * DIRECTORY_LENGTH_MAX)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with temporary_directory() as directory:
        assert directory.parent == Path("/tmp")
        socket_path = directory / "data" / "az1" / "run" / "n" / f"{'0' * 36}.sock"
        assert len(os.fsencode(socket_path)) <= 107


def test_a_full_disk_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30, 5 * 2**20))
    with pytest.raises(DemoFailed, match=r"5 MiB free and the demo needs 1024 MiB.*TMPDIR"), temporary_directory():
        pass


def test_an_up_that_ends_early_is_explained_by_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    # A file stands where the data directory should come to be.
    (tmp_path / "data").write_text("in the way")
    with Installation(tmp_path) as installation:
        with pytest.raises(DemoFailed, match="ended before it was ready"):
            installation.start()
        assert "up.log" in installation.log_tails()
        assert str(tmp_path / "data") in installation.log_tails()


def test_an_up_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation_module, "READY_SECONDS_MAX", 0.0)
    with Installation(tmp_path) as installation:
        with pytest.raises(DemoFailed, match="not ready after 0 seconds"):
            installation.start()
        installation.stop()
        assert installation.running_parts() == []


def test_the_narrator_records_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator()
    narrator.title("A title")
    narrator.chapter("A [chapter]")
    narrator.say("A sentence")
    narrator.code("$ twinsite [demo] " + "x" * 200)
    narrator.fact("A fact")
    narrator.fail("A failure")
    printed = capsys.readouterr().out
    assert "1. A [chapter]" in printed
    assert "  $ twinsite [demo] " + "x" * 200 + "\n" in printed
    path = tmp_path / "run.svg"
    narrator.save_picture(path, "a run")
    picture = path.read_text()
    assert picture.startswith("<svg")
    assert all(word in picture for word in ("title", "chapter", "sentence", "fact", "failure"))
