"""The logs of an installation: one request is found in all of them, all lines are JSON, and none holds a secret."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, wait_for

GROUPS = "/os-vendor-replication-consistency-groups"
HOOK_SECRET = "the webhook's own secret"


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A directory on which nothing runs yet."""
    made = Installation()
    yield made
    made.close()


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, each of which is a JSON object."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def secrets_of(installation: Installation) -> dict[str, str]:
    """Return everything in the installation that nobody may read in a log."""
    directory = installation.directory
    found = {path.name: path.read_text().strip() for path in (directory / "secrets").iterdir() if path.is_file()}
    with sqlite3.connect(f"file:{directory}/controller/twinsite.db?mode=ro", uri=True) as database:
        for table, column in (("replication_groups", "stream_key"), ("users", "password_hash"), ("tokens", "digest")):
            for number, (value,) in enumerate(database.execute(f"SELECT {column} FROM {table}")):
                found[f"{table}.{column}.{number}"] = value
    found["token"] = installation.token
    found["webhook"] = HOOK_SECRET
    return {name: value for name, value in found.items() if value}


def test_one_request_is_found_in_every_log_and_no_secret_in_any(installation: Installation) -> None:
    installation.start("--log-json")
    disks = [installation.create_volume(site) for site in ("az1", "az2")]
    pair = {"volume_ids": disks, "priority_station": "az1", "replication_model": "hypermetro"}
    made = installation.call("POST", "/os-vendor-replications", {"replication": pair}, version="v2")["replication"]
    group = {"replication_ids": [made["id"]], "priority_station": "az1", "replication_model": "hypermetro"}
    body = {"replication_consistency_group": group}
    group_id = installation.call("POST", GROUPS, body, version="v2")["replication_consistency_group"]["id"]

    def shown() -> dict[str, Any]:
        answer = installation.call("GET", f"{GROUPS}/{group_id}", version="v2")
        found: dict[str, Any] = answer["replication_consistency_group"]
        return found

    wait_for(lambda: shown()["status"] == "available", "the group")
    for url, status in (("http://127.0.0.1:1/", 400), ("https://hooks.example.invalid/", 202)):
        hook = {"webhook": {"url": url, "secret": HOOK_SECRET}}
        assert installation.raw("POST", "/os-vendor-webhooks", hook, version="v2").status_code == status
    assert installation.raw("GET", "/volumes", headers={"X-Auth-Token": "a token that is none"}).status_code == 401
    action = {"os-sync-replication-consistency-group": None}
    answer = installation.raw("POST", f"{GROUPS}/{group_id}/action", action, version="v2")
    assert answer.status_code == 200
    request_id = answer.headers["x-openstack-request-id"]
    wait_for(lambda: shown()["replication_status"] == "active", "the sync")

    listed = installation.call("GET", f"{GROUPS}/{group_id}/events", version="v2")["events"]
    reached = next(event for event in listed if event["after"]["replication_status"] == "active")
    recorded = next(event for event in listed if event["actor"] == "worker in az1")
    assert (reached["action"], reached["request_id"]) == ("observed", request_id), "it follows from the request"
    assert (recorded["after"]["secondary"], recorded["request_id"]) == ("in_sync", request_id)

    volume_id = installation.create_volume("az1")
    connector = {"os-initialize_connection": {"connector": {"host": "host"}}}
    answer = installation.raw("POST", f"/volumes/{volume_id}/action", connector)
    connected_by = answer.headers["x-openstack-request-id"]
    for path in (installation.directory / "logs/node-az1.log", installation.directory / f"az1/logs/{volume_id}.log"):
        assert any(line.get("request_id") == connected_by for line in lines(path)), f"{path} does not name the request"

    directory = installation.directory
    logs = {
        "controller": directory / "logs/controller.log",
        "node az1": directory / "logs/node-az1.log",
        "node az2": directory / "logs/node-az2.log",
        "worker az1": directory / f"az1/logs/{group_id}.log",
        "worker az2": directory / f"az2/logs/{group_id}.log",
    }
    for name, path in logs.items():
        assert any(line.get("request_id") == request_id for line in lines(path)), f"{name} does not name the request"
    begun = next(line for line in lines(logs["worker az1"]) if line.get("request_id") == request_id)
    assert begun["worker"] == group_id
    (call,) = [
        line for line in lines(logs["controller"]) if line["event"] == "request" and line["request_id"] == request_id
    ]
    assert (call["method"], call["status"]) == ("POST", 200)

    code, output, errors = installation.stop()
    assert code == 0
    texts = {str(path): path.read_text() for path in directory.glob("**/logs/*.log")} | {
        "stdout": output,
        "stderr": errors,
    }
    assert len(texts) >= 7
    for name, secret in secrets_of(installation).items():
        for place, text in texts.items():
            assert secret not in text, f"{place} holds the secret {name}"
