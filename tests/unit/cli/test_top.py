"""`twinsite top`: the table, its order, and the live view."""

from __future__ import annotations

import datetime
import io
import json
import time
from typing import Any

import pytest
from rich.console import Console

from tests.support.running_api import Api
from tests.unit.cli.conftest import Run
from twinsite.cli.top import Order, format_latency, ordered, summary, traffic_table, watch
from twinsite.client.errors import ApiUnreachable
from twinsite.client.models import Traffic

MOMENT = datetime.datetime(2030, 1, 2, 3, 4, 5)


def group(name: str, **values: Any) -> Traffic:
    """Return a group that is written to; a value of `now` is put into that."""
    now = {
        "at": MOMENT,
        "writes_per_second": 1234.5,
        "write_bytes_per_second": 3 * 2**20,
        "reads_per_second": 1.0,
        "read_bytes_per_second": 2048.0,
        "sent_bytes_per_second": 4 * 2**20,
        "ack_seconds": 0.0021,
        "dirty_bytes": 0,
        "resync_bytes_left": 0,
        "holding": False,
    }
    item = {
        "id": f"id of {name}",
        "name": name,
        "status": "available",
        "replication_status": "active",
        "fault_level": "0",
        "priority_station": "az1",
        "secondary_station": "az2",
        "mode": "in_sync",
        "holding_since": None,
        "progress": {
            "bytes_total": 100,
            "bytes_done": 40,
            "percent": 40,
            "bytes_per_second": 10.0,
            "seconds_left": 65.0,
        },
        "now": {**now, **{key: value for key, value in values.items() if key in now}},
    }
    return Traffic.model_validate({**item, **{key: value for key, value in values.items() if key in item}})


def shown(*listed: Traffic) -> list[list[str]]:
    """Return the rows of the table, by words."""
    console = Console(file=io.StringIO(), width=200)
    console.print(traffic_table(listed))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_a_row_says_it_all() -> None:
    _, row = shown(group("shop"))
    assert " ".join(row) == "shop az1 → az2 in sync 1,234 3.0 MiB/s 2.0 KiB/s 4.0 MiB/s 2.10 ms 0 B - -"


def test_a_resync_and_a_hold() -> None:
    _, row = shown(group("shop", mode="copying", replication_status="copying", resync_bytes_left=2**20))
    assert " ".join(row).endswith("40 %, 1.0 MiB left, 1:05 -")
    since = MOMENT - datetime.timedelta(seconds=75)
    _, row = shown(
        group("shop", mode="holding", replication_status="inactive", holding=True, holding_since=since, dirty_bytes=512)
    )
    assert " ".join(row).endswith("512 B - 1:15")
    assert "holding" in row


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, "in sync"),
        ({"replication_status": "copying"}, "copying"),
        ({"mode": "paused", "replication_status": "active-stopped"}, "paused"),
        ({"mode": "connecting", "replication_status": "inactive"}, "DR site away"),
        ({"status": "failovered", "mode": "paused"}, "failovered"),
        ({"mode": None}, "primary away"),
        ({"mode": "novel"}, "novel"),
    ],
)
def test_the_state_in_words(values: dict[str, Any], state: str) -> None:
    assert f"az2 {state} 1,234" in " ".join(shown(group("shop", **values))[1])


def test_what_nobody_knows_is_no_zero() -> None:
    _, row = shown(group("shop", now=None, ack_seconds=None))
    assert row[-8:] == ["?"] * 8
    assert "0.00" not in " ".join(shown(group("shop", ack_seconds=None))[1])


def test_the_order() -> None:
    listed = [
        group("b", writes_per_second=5.0, ack_seconds=None, dirty_bytes=1),
        group("c", writes_per_second=5.0, ack_seconds=0.5, dirty_bytes=9),
        group("a", now=None),
        group("d", writes_per_second=7.0, ack_seconds=0.1, write_bytes_per_second=2**40),
    ]
    expected = {
        Order.NAME: "abcd",
        Order.WRITES: "dbca",
        Order.LATENCY: "cdba",
        Order.DIRTY: "cbda",
        Order.BYTES: "dbca",
    }
    assert {order: "".join(item.name or "" for item in ordered(listed, order)) for order in Order} == expected


def test_everything_together() -> None:
    text = summary([group("a"), group("b", holding=True), group("c", now=None)]).plain
    assert text.endswith("3 groups  2,469 writes/s  6.0 MiB/s written  8.0 MiB/s sent  1 group holding")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00021, "0.21 ms"), (0.0451, "45.1 ms"), (2.3, "2.30 s"), (0.9999, "999.9 ms"), (0.0, "0.00 ms")],
)
def test_latencies(seconds: float, text: str) -> None:
    assert format_latency(seconds) == text


def test_the_live_view_outlives_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = [[group("one")], ApiUnreachable("the API is away", was_sent=False), [group("two")]]
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    pauses: list[float] = []

    def look() -> list[Traffic]:
        if not looks:
            raise KeyboardInterrupt
        found = looks.pop(0)
        if isinstance(found, ApiUnreachable):
            raise found
        return list(found)

    monkeypatch.setattr(time, "sleep", pauses.append)
    watch(look, 7.0, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    away = text.index("the API is away")
    assert text.index("one") < away < text.index("two")
    assert "one" in text[away : text.index("two")], "what was last known stays"
    assert pauses == [7.0] * 3


def test_once_against_the_api(api: Api, run: Run) -> None:
    disks = [api.client.create_volume(size_gib=1, zone=zone) for zone in ("az1", "az2")]
    for disk in disks:
        api.client.wait_for_volume(disk.id, 20)
    pair = api.client.create_pair(volume_ids=[disk.id for disk in disks], priority_station="az1")
    made = api.client.create_group(pair_ids=[pair.id], priority_station="az1", name="a group on top")
    api.client.wait_for_group(made.id, 20)
    table = run("top", "--once", "--data", str(api.data_dir))
    assert (table.status, table.errors) == (0, "")
    (row,) = [line for line in table.output.splitlines() if "a group on top" in line]
    assert "az1 → az2" in row
    told = run("top", "-o", "json", "--sort", "writes", "--data", str(api.data_dir))
    assert made.id in [item["id"] for item in json.loads(told.output)]
    assert run("top", "--interval", "0.1", "--data", str(api.data_dir)).status == 2
