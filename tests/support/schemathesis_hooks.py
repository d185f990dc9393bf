"""What schemathesis cannot know: real disks for pairs, real pairs for groups, and the password of a login.

Loaded by schemathesis in its own process (SCHEMATHESIS_HOOKS); the environment says where the API is.
"""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import schemathesis

WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


class Supply:
    """Makes objects for requests that are to be accepted."""

    def __init__(self) -> None:
        url, project = os.environ["TWINSITE_URL"], os.environ["TWINSITE_PROJECT"]
        headers = {"X-Auth-Token": os.environ["TWINSITE_TOKEN"]}
        self._http = httpx.Client(base_url=f"{url}/v2/{project}", headers=headers, timeout=WAIT_SECONDS_MAX)
        self._couples: list[list[str]] = []

    def volumes(self) -> list[str]:
        """Return a production disk in az1 and a DR disk in az2 that are in no pair."""
        paired = {volume_id for pair in self._pairs() for volume_id in pair["volume_ids"].split(",")}
        for couple in self._couples:
            if not paired & set(couple):
                return couple
        self._couples.append(
            [self._make("/volumes", "volume", {"size": 1, "availability_zone": zone}) for zone in ("az1", "az2")]
        )
        return self._couples[-1]

    def pair(self) -> str:
        """Return a pair that is in no group."""
        for pair in self._pairs():
            if pair["status"] == "available" and pair["replication_consistency_group_id"] is None:
                return str(pair["id"])
        fields = {"volume_ids": self.volumes(), "priority_station": "az1", "replication_model": "hypermetro"}
        return self._make("/os-vendor-replications", "replication", fields)

    def _pairs(self) -> list[dict[str, Any]]:
        answer = self._http.get("/os-vendor-replications")
        answer.raise_for_status()
        pairs: list[dict[str, Any]] = answer.json()["replications"]
        return pairs

    def _make(self, path: str, key: str, fields: dict[str, Any]) -> str:
        """Create an object, wait until it is available, and return its id."""
        answer = self._http.post(path, json={key: fields})
        answer.raise_for_status()
        object_id = str(answer.json()[key]["id"])
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._http.get(f"{path}/{object_id}").json()[key]["status"] == "available":
                return object_id
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{path}/{object_id} is not available after {WAIT_SECONDS_MAX} s")

    def wait_until_gone(self, url: str) -> None:
        """Return once an object is a 404."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._http.get(url).status_code == 404:
                return
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{url} is still there after {WAIT_SECONDS_MAX} s")


_supply: list[Supply] = []


def supply() -> Supply:
    """Return the supply of this process."""
    if not _supply:
        _supply.append(Supply())
    return _supply[0]


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Put what exists into requests that are meant to be right, and let none end the life of its own user."""
    if case.path_parameters and case.path_parameters.get("user_id") == os.environ["TWINSITE_USER"]:
        case.path_parameters["user_id"] = os.environ["TWINSITE_SPARE_USER"]
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    operation = case.operation.definition.raw.get("operationId")
    if operation == "create_pair":
        case.body["replication"].update(volume_ids=supply().volumes(), priority_station="az1")
    elif operation == "create_group":
        case.body["replication_consistency_group"].update(replication_ids=[supply().pair()], priority_station="az1")
    elif operation == "act_on_group":
        # A pair that is not there is a 404 too, which would be taken for the group's.
        wanted = case.body.get("os-extend-replication-volumes")
        for item in wanted.get("replications", [wanted]) if isinstance(wanted, dict) else []:
            item["id"] = supply().pair()
    elif operation == "log_in":
        identity = case.body["auth"]["identity"]
        if "password" in identity and identity["password"]["user"].get("name") == "admin":
            identity["password"]["user"]["password"] = os.environ["TWINSITE_PASSWORD"]


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Wait until a volume that is being deleted is gone: its node removes it after the answer, which is a 202."""
    operation = str(case.operation.definition.raw.get("operationId"))
    if operation.startswith("delete_volume__") and response.status_code == 202:
        supply().wait_until_gone(str(response.request.url))
