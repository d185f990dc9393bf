"""When a wait ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.client.conftest import Driver, Outcome, refusal, reply
from twinsite.client import ApiRefused, ApiUnreachable, WaitFailed, waiting
from twinsite.client.models import Group
from twinsite.client.waiting import (
    SyncWatch,
    complete_extend,
    wait_for_group,
    wait_for_pair,
    wait_for_sync,
    wait_for_volume,
    wait_until_pair_gone,
    wait_until_volume_gone,
)

GONE = refusal(404, "not there")
SILENT = ApiUnreachable("silent")


def volumes(*statuses: str) -> list[Outcome]:
    fields = {"id": "v", "name": None, "size": 1, "availability_zone": "az1", "volume_type": "SSD"}
    return [reply({"volume": {**fields, "status": status}}) for status in statuses]


def pairs(*statuses: str) -> list[Outcome]:
    fields = {
        "id": "p",
        "name": None,
        "volume_ids": "a,b",
        "priority_station": "az1",
        "replication_consistency_group_id": None,
        "failure_detail": "37100043 gone",
    }
    return [reply({"replication": {**fields, "status": status}}) for status in statuses]


def group(replication: str, mode: str | None = None, status: str = "available", **fields: Any) -> dict[str, Any]:
    report = {
        "mode": mode,
        "term": 1,
        "primary_station": "az1",
        "secondary_station": "az2",
        "secondary": "stale",
        "stale_since": None,
        "in_sync_since": None,
        "holding_since": None,
        "last_acknowledged_sequence": None,
        "last_applied_sequence": None,
        "failover": {"possible": False, "reason": "stale", "loss": None},
        "failure": None,
        "progress": {
            "bytes_total": 0,
            "bytes_done": 0,
            "percent": None,
            "bytes_per_second": None,
            "seconds_left": None,
        },
        "dirty_bytes": 0,
        "last_resync": None,
    }
    shown = {"id": "g", "name": None, "priority_station": "az1", "replication_status": replication, "twinsite": report}
    return {**shown, "status": status, **fields}


def groups(*shown: dict[str, Any]) -> list[Outcome]:
    return [reply({"replication_consistency_group": item}) for item in shown]


def test_waits_until_available() -> None:
    driver = Driver(*volumes("creating", "creating", "available"))
    assert driver.run(wait_for_volume(driver.session, "v", 10)).id == "v"
    assert driver.pauses == [waiting.POLL_SECONDS] * 2
    driver = Driver(*volumes("creating", "in-use"))
    assert driver.run(wait_for_volume(driver.session, "v", 10)).status == "in-use"


def test_waits_for_other_statuses() -> None:
    driver = Driver(*groups(group("active", status="failovering"), group("active-stopped", status="failovered")))
    told: list[str] = []
    wait = wait_for_group(
        driver.session, "g", 10, wanted={"failovered"}, progress=lambda item: told.append(item.status)
    )
    assert driver.run(wait).status == "failovered"
    assert told == ["failovering", "failovered"]


def test_a_failed_creation_gives_its_reason() -> None:
    driver = Driver(*pairs("creating", "error"))
    with pytest.raises(WaitFailed, match="pair p is in status error: 37100043 gone"):
        driver.run(wait_for_pair(driver.session, "p", 10))


def test_waits_until_gone() -> None:
    driver = Driver(*pairs("deleting", "deleting"), GONE)
    driver.run(wait_until_pair_gone(driver.session, "p", 10))
    driver = Driver(*pairs("deleting", "error_deleting"))
    with pytest.raises(WaitFailed, match="pair p is in status error_deleting"):
        driver.run(wait_until_pair_gone(driver.session, "p", 10))


def test_a_wait_has_an_end() -> None:
    driver = Driver(*volumes("creating"))
    with pytest.raises(WaitFailed, match="still creating"):
        driver.run(wait_for_volume(driver.session, "v", 0))
    driver = Driver(*volumes("deleting"))
    with pytest.raises(WaitFailed, match="still deleting"):
        driver.run(wait_until_volume_gone(driver.session, "v", 0))
    driver = Driver(*groups(group("copying", "copying")))
    with pytest.raises(WaitFailed, match="still copying"):
        driver.run(wait_for_sync(driver.session, "g", 0))


def test_other_refusals_pass_through() -> None:
    driver = Driver(refusal(500, "broken"))
    with pytest.raises(ApiRefused, match="broken"):
        driver.run(wait_until_volume_gone(driver.session, "v", 10))


def test_a_controller_that_starts_anew_ends_no_wait() -> None:
    driver = Driver(*volumes("creating"), *[SILENT] * 7, *volumes("available"))
    assert driver.run(wait_for_volume(driver.session, "v", 10)).status == "available"
    driver = Driver(*groups(group("copying", "copying")), *[SILENT] * 7, *groups(group("active")))
    assert driver.run(wait_for_sync(driver.session, "g", None)).replication_status == "active"


def test_silence_that_lasts_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SILENCE_SECONDS_MAX", 0.0)
    driver = Driver(*volumes("creating"), *[SILENT] * 3)
    with pytest.raises(ApiUnreachable):
        driver.run(wait_for_volume(driver.session, "v", None))


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
def test_a_sync_is_over_when_the_group_is_active(sequence: list[dict[str, Any]]) -> None:
    watch = SyncWatch()
    done = [watch.is_done(Group.model_validate(answer)) for answer in sequence]
    assert done == [False] * (len(sequence) - 1) + [True]
    driver, told = Driver(*groups(*sequence)), list[str | None]()
    driver.run(wait_for_sync(driver.session, "g", 10, progress=lambda item: told.append(item.mode)))
    assert told == [answer["twinsite"]["mode"] for answer in sequence]


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
def test_a_sync_that_cannot_end_well_ends(sequence: list[dict[str, Any]], message: str) -> None:
    driver = Driver(*groups(*sequence))
    with pytest.raises(WaitFailed, match=message):
        driver.run(wait_for_sync(driver.session, "g"))
    assert driver.outcomes == []


def test_an_extension_is_repeated_for_what_passes_and_for_nothing_else() -> None:
    driver = Driver(refusal(503, "no room yet"), refusal(503, "no room yet"), reply())
    driver.run(complete_extend(driver.session, "g", {"p": 2}, 10))
    assert len(driver.sent) == 3
    driver = Driver(refusal(503, "no room yet"), reply())
    with pytest.raises(ApiRefused, match="no room yet"):
        driver.run(complete_extend(driver.session, "g", {"p": 2}, 0))
    driver = Driver(refusal(400, "smaller"), reply())
    with pytest.raises(ApiRefused, match="smaller"):
        driver.run(complete_extend(driver.session, "g", {"p": 2}, 10))
