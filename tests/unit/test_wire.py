"""Messages survive the wire, and what is wrong with one is named with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twinsite.errors import PeerViolation
from twinsite.messages import (
    Counters,
    DesiredVolume,
    Failure,
    MemberSpec,
    MemberStatus,
    Mode,
    NodeDesired,
    NodeReport,
    ObservedVolume,
    ObservedWorker,
    PoolReport,
    Replication,
    ResyncReport,
    Role,
    StorePlace,
    WorkerSpec,
    WorkerStatus,
    from_wire,
    to_wire,
)

FAILURE = Failure("37100177", "full")
RESYNC = ResyncReport("full", 1.5, None, 100, 50, 40, 10, 2.0, None)
STATUS = WorkerStatus(
    "g",
    3,
    Role.PRIMARY,
    Mode.COPYING,
    1,
    [MemberStatus("v", True, 100, 50, failure=FAILURE)],
    resync=RESYNC,
    counters=Counters(writes=7),
)
SPEC = WorkerSpec("g", 3, Role.SECONDARY, 1, Replication.RUNNING, [MemberSpec(0, "v", 4096, StorePlace("file", "/v"))])
REPORT = NodeReport(
    "az1",
    "node",
    4,
    0.0,
    PoolReport(10, 5),
    [ObservedVolume("v", "ready", ["nbd://v"], None, 4096)],
    [ObservedWorker("g", True, 12, STATUS), ObservedWorker("h", False, failure=FAILURE)],
)
DESIRED = NodeDesired("i", 4, [DesiredVolume("v", 4096, "SSD")], [SPEC], ["gone"])


@pytest.mark.parametrize("message", [REPORT, DESIRED, STATUS, SPEC])
def test_messages_survive_the_wire(message: Any) -> None:
    assert from_wire(type(message), json.loads(json.dumps(to_wire(message)))) == message


def test_a_newer_sender_and_whole_numbers_for_fractions_are_understood() -> None:
    assert from_wire(PoolReport, {"total_bytes": 1, "free_bytes": 0, "novel": [1]}) == PoolReport(1, 0)
    assert from_wire(ResyncReport, to_wire(RESYNC) | {"started_at": 3}).started_at == 3.0


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (["site"], None, "report.site: expected str, got NoneType"),
        (["seen_generation"], True, "report.seen_generation: expected int, got bool"),
        (["wait_seconds"], "1", "report.wait_seconds: expected float, got str"),
        (["wait_seconds"], True, "report.wait_seconds: expected float, got bool"),
        (["pool"], [], "report.pool: expected an object, got list"),
        (["volumes"], {}, "report.volumes: expected a list, got dict"),
        (["volumes", 0, "nbd_uris", 0], 7, "report.volumes[0].nbd_uris[0]: expected str, got int"),
        (["workers", 0, "status", "mode"], "odd", "report.workers[0].status.mode: 'odd' is not a Mode"),
        (["workers", 0, "status", "mode"], [], "report.workers[0].status.mode: [] is not a Mode"),
        (
            ["workers", 0, "status", "members", 0, "failure"],
            {"code": "1"},
            "report.workers[0].status.members[0].failure: key 'message' is missing",
        ),
        (["workers", 1], None, "report.workers[1]: expected an object, got NoneType"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path: list[str | int], value: object, complaint: str) -> None:
    wire: Any = to_wire(REPORT)
    inner = wire
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(PeerViolation) as error:
        from_wire(NodeReport, wire, "report")
    assert str(error.value) == complaint
