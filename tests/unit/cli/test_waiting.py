"""When a wait ends, and what the progress of a synchronization looks like."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, cast

import pytest
from rich.console import Console

from twinsite.cli import waiting
from twinsite.cli.errors import ApiRefused, WaitFailed
from twinsite.cli.models import Group
from twinsite.cli.output import format_bytes, format_seconds
from twinsite.cli.progress import SyncBar, describe_state, show_sync
from twinsite.cli.waiting import SyncWatch, wait_until_available, wait_until_gone

GIB = 1024**3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.0)


def group(
    replication: str, mode: str | None = None, percent: float | None = None, status: str = "available", **fields: Any
) -> Group:
    progress = None
    if percent is not None:
        progress = {
            "bytes_total": GIB,
            "bytes_done": int(GIB * percent / 100),
            "percent": percent,
            "bytes_per_second": 100.0 * 1024**2,
            "seconds_left": 61.0,
        }
    report = {"mode": mode, "progress": progress}
    content = {"id": "g", "name": "", "status": status, "replication_status": replication, "twinsite": report}
    return cast(Group, {**content, **fields})


def answers(*statuses: str) -> Any:
    left: Iterator[str] = iter(statuses)

    def show(item_id: str) -> dict[str, str]:
        status = next(left)
        if status == "404":
            raise ApiRefused(404, "not found")
        return {"id": item_id, "status": status, "failure_detail": "37100043 gone"}

    return show


def test_waits_until_available() -> None:
    assert wait_until_available("volume", "v", answers("creating", "creating", "available"), 10)["id"] == "v"
    assert wait_until_available("volume", "v", answers("creating", "in-use"), 10)["status"] == "in-use"


def test_a_failed_creation_gives_its_reason() -> None:
    with pytest.raises(WaitFailed, match="volume v is in status error: 37100043 gone"):
        wait_until_available("volume", "v", answers("creating", "error"), 10)


def test_waits_until_gone() -> None:
    wait_until_gone("pair", "p", answers("deleting", "deleting", "404"), 10)
    with pytest.raises(WaitFailed, match="pair p is in status error_deleting"):
        wait_until_gone("pair", "p", answers("deleting", "error_deleting"), 10)


def test_a_wait_has_an_end() -> None:
    with pytest.raises(WaitFailed, match="still creating"):
        wait_until_available("volume", "v", answers("creating"), 0)
    with pytest.raises(WaitFailed, match="still deleting"):
        wait_until_gone("volume", "v", answers("deleting"), 0)


def test_other_refusals_pass_through() -> None:
    def show(item_id: str) -> dict[str, str]:
        raise ApiRefused(500, "broken")

    with pytest.raises(ApiRefused):
        wait_until_gone("volume", "v", show, 10)


@pytest.mark.parametrize(
    "sequence",
    [
        [group("active", "in_sync")],
        [group("active-stopped", "paused"), group("active", "in_sync")],
        [group("inactive", "paused"), group("inactive", "connecting"), group("copying", "copying"), group("active")],
        [group("copying", "copying"), group("inactive", "connecting"), group("copying", "copying"), group("active")],
        [group("inactive"), group("active")],
    ],
)
def test_a_sync_is_over_when_the_group_is_active(sequence: list[Group]) -> None:
    watch = SyncWatch()
    assert [watch.is_done(answer) for answer in sequence] == [False] * (len(sequence) - 1) + [True]


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ([group("copying", "copying"), group("inactive", "paused")], "was stopped before"),
        (
            [group("error", "error", failure_detail="37100177 disk full")],
            "replication status error: 37100177 disk full",
        ),
        ([group("copying", "copying"), group("inactive", status="error")], "replication status inactive"),
    ],
)
def test_a_sync_that_cannot_end_well_ends(sequence: list[Group], message: str) -> None:
    watch = SyncWatch()
    for answer in sequence[:-1]:
        assert not watch.is_done(answer)
    with pytest.raises(WaitFailed, match=message):
        watch.is_done(sequence[-1])


def test_lines_for_a_pipe_are_few_and_whole() -> None:
    console = Console(file=io.StringIO(), width=100)
    with show_sync(console) as update:
        for answer in [
            group("inactive", "paused"),
            group("inactive", "connecting"),
            *(group("copying", "copying", percent) for percent in (1, 2, 3, 50, 51, 99)),
            group("active", "in_sync", 100),
        ]:
            update(answer)
    assert cast(io.StringIO, console.file).getvalue().splitlines() == [
        "starting",
        "waiting for the DR site",
        "copying: 1 % (10.2 MiB of 1.0 GiB, 100.0 MiB/s)",
        "copying: 50 % (512.0 MiB of 1.0 GiB, 100.0 MiB/s)",
        "copying: 99 % (1013.8 MiB of 1.0 GiB, 100.0 MiB/s)",
        "in sync",
    ]


def test_the_bar_shows_bytes_percent_rate_and_time() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    bar = SyncBar(console)
    bar.update(group("copying", "copying", 25))
    console.print(bar.progress.get_renderable())
    text = cast(io.StringIO, console.file).getvalue()
    assert all(part in text for part in ("copying", "25 %", "256.0 MiB of 1.0 GiB", "100.0 MiB/s", "1:01 left"))


def test_a_terminal_gets_a_live_bar() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    with show_sync(console) as update:
        update(group("inactive"))
        update(group("active", "in_sync", 100))
    text = cast(io.StringIO, console.file).getvalue()
    assert "in sync" in text
    assert "100 %" in text


def test_a_group_without_a_report_is_described_by_its_status() -> None:
    answer = cast(Group, {"id": "g", "name": "", "status": "available", "replication_status": "inactive"})
    assert describe_state(answer) == "inactive"
    SyncBar(Console(file=io.StringIO())).update(answer)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (3 * GIB, "3.0 GiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_bytes_have_binary_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
