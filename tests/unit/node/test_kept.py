"""What a node tells of kept logs: what lies there, looked for again after a while and after a worker's change."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinsite.core.tracking.kept import is_kept_name, kept_at, kept_name
from twinsite.messages import KeptLog
from twinsite.node.kept import LOOK_SECONDS, KeptLogs, find_kept

AT = 1_764_000_000.0


def test_a_name_says_when() -> None:
    assert kept_name(AT) == "kept-20251124T160000Z.log"
    assert kept_at(kept_name(AT + 0.7)) == AT
    assert kept_name(AT, 2) == "kept-20251124T160000Z-2.log"
    assert kept_at(kept_name(AT, 2)) == AT


@pytest.mark.parametrize("name", ["kept-.log", "kept-yesterday.log", "undo.log", "kept-20251124T160000Z.log.new"])
def test_other_names_say_nothing(name: str) -> None:
    assert kept_at(name) is None
    assert is_kept_name(name) is (name.startswith("kept-") and name.endswith(".log"))


def test_the_logs_of_a_directory_the_oldest_first(tmp_path: Path) -> None:
    for at, size in ((AT + 60, 3), (AT, 5)):
        (tmp_path / kept_name(at)).write_bytes(b"x" * size)
    (tmp_path / "undo.log").write_bytes(b"x")
    paths = [str(tmp_path / kept_name(at)) for at in (AT, AT + 60)]
    assert find_kept(tmp_path) == [KeptLog(paths[0], AT, 5), KeptLog(paths[1], AT + 60, 3)]
    assert find_kept(tmp_path / "missing") == []


async def test_a_look_is_good_for_a_while(tmp_path: Path) -> None:
    now = [100.0]
    logs = KeptLogs(tmp_path, lambda: now[0])

    async def look() -> list[str]:
        logs.now()
        await logs.looked()
        return [Path(kept.path).name for kept in logs.now()]

    assert await look() == []
    log = tmp_path / kept_name(AT)
    log.write_bytes(b"x")
    now[0] += LOOK_SECONDS / 2
    assert await look() == []
    logs.look_again()
    assert await look() == [log.name]
    log.unlink()
    now[0] += LOOK_SECONDS
    assert await look() == []
