"""What the progress of a synchronization looks like."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest
from rich.console import Console

from twinsite.cli.output import format_bytes, format_seconds
from twinsite.cli.progress import SyncBar, describe_state, show_sync
from twinsite.client.models import Group

GIB = 1024**3


def group(replication: str, mode: str | None = None, percent: int = 0) -> Group:
    failover = {"possible": False, "reason": "stale", "loss": None}
    report: dict[str, Any] = {
        "mode": mode,
        "term": 1,
        "primary_station": "az1",
        "secondary_station": "az2",
        "secondary": "stale",
        "failover": failover,
        "dirty_bytes": 0,
        "progress": {
            "bytes_total": GIB,
            "bytes_done": GIB * percent // 100,
            "percent": percent,
            "bytes_per_second": 100.0 * 1024**2,
            "seconds_left": 61.0,
        },
    }
    unknown = ("stale_since", "in_sync_since", "holding_since", "last_acknowledged_sequence", "last_applied_sequence")
    report |= dict.fromkeys((*unknown, "failure", "last_resync"))
    shown = {"id": "g", "name": None, "status": "available", "priority_station": "az1"}
    return Group.model_validate({**shown, "replication_status": replication, "twinsite": report})


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
        "copying: 1 % (10.2 MiB of 1.0 GiB, 100.0 MiB/s, 1:01 left)",
        "copying: 50 % (512.0 MiB of 1.0 GiB, 100.0 MiB/s, 1:01 left)",
        "copying: 99 % (1013.8 MiB of 1.0 GiB, 100.0 MiB/s, 1:01 left)",
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
    fields = {"id": "g", "name": None, "status": "available", "priority_station": "az1"}
    answer = Group.model_validate({**fields, "replication_status": "inactive"})
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
