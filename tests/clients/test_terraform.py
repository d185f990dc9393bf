"""The Terraform provider of FlexibleEngine, played call by call against a real installation with real workers.

Each method does what the resource of that name does (terraform-provider-flexibleengine on golangsdk:
`blockstorage_volume_v2`, `drs_replication_v2`, `drs_replicationconsistencygroup_v2`): the same calls in the
same order, the same status codes compared exactly, answers decoded into the same types, the same expected statuses in
each wait; only the pauses are shorter. It has one token for all of it and never logs in again.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.installation import Installation, open_client, wait_for

WAIT_SECONDS_MAX = 120.0
POLL_SECONDS = 0.05

Json = dict[str, Any]
PAIRS = "os-vendor-replications"
GROUPS = "os-vendor-replication-consistency-groups"
GROUP = "replication_consistency_group"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"

TEXT, NUMBER, FLAG, TEXTS, TIME = "text", "number", "flag", "texts", "time"
VOLUME_TYPES = {
    **dict.fromkeys(("id", "name", "description", "status", "availability_zone", "volume_type", "bootable"), TEXT),
    **dict.fromkeys(("snapshot_id", "source_volid", "consistencygroup_id", "replication_status", "user_id"), TEXT),
    **dict.fromkeys(("encrypted", "multiattach"), FLAG),
    **dict.fromkeys(("created_at", "updated_at"), TIME),
    "size": NUMBER,
}
PAIR_TYPES = {
    **dict.fromkeys(("id", "name", "description", "status", "priority_station", "created_at", "updated_at"), TEXT),
    **dict.fromkeys(("replication_consistency_group_id", "volume_ids", "replication_model", "record_metadata"), TEXT),
    **dict.fromkeys(("replication_status", "progress", "failure_detail", "fault_level"), TEXT),
}
GROUP_TYPES = {
    **dict.fromkeys(("id", "name", "description", "status", "priority_station", "created_at", "updated_at"), TEXT),
    **dict.fromkeys(("replication_model", "replication_status", "failure_detail", "fault_level"), TEXT),
    "replication_ids": TEXTS,
}


def decode(view: Json, types: dict[str, str]) -> Json:
    """Check what Go's decoder would: a field that is there has the type of the struct, or is null."""
    for name, kind in types.items():
        value = view.get(name)
        if value is None:
            continue
        if kind == TIME:
            assert datetime.datetime.strptime(value, TIME_FORMAT).tzinfo is None
        elif kind == TEXTS:
            assert isinstance(value, list) and all(isinstance(item, str) for item in value), (name, value)
        else:
            wanted = {TEXT: str, NUMBER: int, FLAG: bool}[kind]
            assert type(value) is wanted, (name, value)
    return view


class Provider:
    """The provider's HTTP client: it compares status codes exactly and gives up at the first other one."""

    def __init__(self, url: str, password: str) -> None:
        self._http = httpx.Client(trust_env=False, timeout=WAIT_SECONDS_MAX)
        self.log_ins = 0
        answer = self._log_in(url, password, {"project": {"name": "admin", "domain": {"name": "Default"}}})
        token = answer.json()["token"]
        (endpoint,) = [
            endpoint["url"]
            for entry in token["catalog"]
            if entry["type"] == "volumev2"
            for endpoint in entry["endpoints"]
            if endpoint["interface"] == "public"
        ]
        self._endpoint = endpoint.rstrip("/")
        domain = self._log_in(url, password, {"domain": {"name": "Default"}})
        assert domain.json()["token"]["domain"]["name"] == "Default"
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    def _log_in(self, url: str, password: str, scope: Json) -> httpx.Response:
        self.log_ins += 1
        user = {"name": "admin", "domain": {"name": "Default"}, "password": password}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": scope}}
        answer = self._http.post(f"{url}/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, ok: tuple[int, ...], body: object = None) -> Any:
        """Call; return the decoded answer, None when it is empty. Any other status is fatal, 401 too."""
        answer = self._http.request(method, f"{self._endpoint}/{path}", json=body)
        assert answer.status_code in ok, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def get(self, path: str, key: str, types: dict[str, str]) -> Json | None:
        """Return an object; None for a 404."""
        answer = self._http.get(f"{self._endpoint}/{path}")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return decode(answer.json()[key], types)

    def wait(self, path: str, key: str, types: dict[str, str], pending: set[str], target: str) -> None:
        """Poll until the target. A status that is neither pending nor the target is fatal; a 404 is "deleted"."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            view = self.get(path, key, types)
            status = "deleted" if view is None else view["status"]
            if status == target:
                return
            assert status in pending, view
            assert time.monotonic() < deadline, view
            time.sleep(POLL_SECONDS)

    # Volumes

    def create_volume(self, zone: str, name: str) -> str:
        """Create and read."""
        fields = {"availability_zone": zone, "name": name, "size": 1, "metadata": {"made-by": "terraform"}}
        made = decode(self.request("POST", "volumes", (202,), {"volume": fields})["volume"], VOLUME_TYPES)
        self.wait(f"volumes/{made['id']}", "volume", VOLUME_TYPES, {"downloading", "creating"}, "available")
        self.read_volume(made["id"])
        return str(made["id"])

    def read_volume(self, volume_id: str) -> Json:
        """Read a volume, and its tags, which may be missing."""
        view = self.get(f"volumes/{volume_id}", "volume", VOLUME_TYPES)
        assert view is not None
        assert all(isinstance(value, str) for value in view["metadata"].values())
        tags = self._http.get(f"{self._endpoint}/os-vendor-volumes/{volume_id}/tags")
        assert (tags.status_code, tags.json()) == (200, {"tags": {}})
        return view

    def update_volume(self, volume_id: str, name: str) -> Json:
        """Rename and read."""
        self.request("PUT", f"volumes/{volume_id}", (200,), {"volume": {"name": name}})
        return self.read_volume(volume_id)

    def delete_volume(self, volume_id: str) -> None:
        """Read, delete, wait for the 404."""
        path = f"volumes/{volume_id}"
        view = self.get(path, "volume", VOLUME_TYPES)
        assert view is not None
        assert view["attachments"] == []
        self.request("DELETE", path, (202, 204))
        self.wait(path, "volume", VOLUME_TYPES, {"deleting", "downloading", "available"}, "deleted")

    # Pairs

    def create_pair(self, volume_ids: list[str], priority_station: str, name: str) -> str:
        """Look for the DR disk's servers, create, wait, read."""
        for volume_id in volume_ids:
            volume = self.get(f"volumes/{volume_id}", "volume", VOLUME_TYPES)
            assert volume is not None
            if volume["availability_zone"] != priority_station:
                assert volume["attachments"] == []
        fields = {"name": name, "volume_ids": volume_ids, "priority_station": priority_station}
        body = {"replication": {**fields, "replication_model": "hypermetro"}}
        made = decode(self.request("POST", PAIRS, (202,), body)["replication"], PAIR_TYPES)
        self.wait(f"{PAIRS}/{made['id']}", "replication", PAIR_TYPES, {"creating"}, "available")
        view = self.read_pair(made["id"])
        # What the provider reads back must be what the configuration says, or it wants to make a new pair.
        assert view["volume_ids"].split(",") == volume_ids
        assert (view["name"], view["priority_station"]) == (name, priority_station)
        assert (view["replication_model"], view["description"]) == ("hypermetro", None)
        return str(made["id"])

    def read_pair(self, pair_id: str) -> Json:
        """Read a pair."""
        view = self.get(f"{PAIRS}/{pair_id}", "replication", PAIR_TYPES)
        assert view is not None
        json.loads(view["record_metadata"])
        return view

    def delete_pair(self, pair_id: str) -> None:
        """Delete, wait for the 404."""
        path = f"{PAIRS}/{pair_id}"
        self.request("DELETE", path, (202, 204))
        self.wait(path, "replication", PAIR_TYPES, {"deleting", "available"}, "deleted")

    # Groups

    def create_group(self, pair_ids: list[str], name: str) -> str:
        """Create, wait, synchronize, read."""
        fields = {"name": name, "replication_ids": pair_ids, "priority_station": "az1"}
        body = {GROUP: {**fields, "replication_model": "hypermetro"}}
        made = decode(self.request("POST", GROUPS, (202,), body)[GROUP], GROUP_TYPES)
        self.wait(f"{GROUPS}/{made['id']}", GROUP, GROUP_TYPES, {"creating"}, "available")
        self.act(made["id"], "sync")
        view = self.read_group(made["id"])
        assert (view["name"], set(view["replication_ids"])) == (name, set(pair_ids))
        return str(made["id"])

    def act(self, group_id: str, action: str) -> None:
        """Call an action: exactly 200, and nothing is decoded."""
        path, key = f"{GROUPS}/{group_id}/action", f"os-{action}-replication-consistency-group"
        assert self.request("POST", path, (200,), {key: None}) is None

    def read_group(self, group_id: str) -> Json:
        """Read a group."""
        view = self.get(f"{GROUPS}/{group_id}", GROUP, GROUP_TYPES)
        assert view is not None
        return view

    def update_group(self, group_id: str, *, pair_ids: list[str] | None = None, **changes: str) -> Json:
        """Pause, compare the pairs, change, wait, synchronize, read."""
        self.act(group_id, "stop")
        fields: Json = dict(changes)
        if pair_ids is not None:
            present = self.read_group(group_id)["replication_ids"]
            added = [pair_id for pair_id in pair_ids if pair_id not in present]
            removed = [pair_id for pair_id in present if pair_id not in pair_ids]
            fields |= {"add_replication_ids": added} if added else {}
            fields |= {"remove_replication_ids": removed} if removed else {}
        path = f"{GROUPS}/{group_id}"
        decode(self.request("PUT", path, (202,), {GROUP: fields})[GROUP], GROUP_TYPES)
        self.wait(path, GROUP, GROUP_TYPES, {"updating", "creating"}, "available")
        self.act(group_id, "sync")
        return self.read_group(group_id)

    def delete_group(self, group_id: str) -> None:
        """Pause, read, remove all pairs, wait, delete, wait for the 404."""
        path = f"{GROUPS}/{group_id}"
        self.act(group_id, "stop")
        pair_ids = self.read_group(group_id)["replication_ids"]
        if pair_ids:
            self.request("PUT", path, (202,), {GROUP: {"remove_replication_ids": pair_ids}})
            self.wait(path, GROUP, GROUP_TYPES, {"updating"}, "available")
        self.request("DELETE", path, (202, 204))
        self.wait(path, GROUP, GROUP_TYPES, {"deleting", "available"}, "deleted")

    def list_all(self, path: str, key: str) -> list[Json]:
        """List as the Go SDK does: one page, and whatever array comes first is the data."""
        answer = self.request("GET", path, (200,))
        arrays = [name for name, value in answer.items() if isinstance(value, list) and not name.endswith("links")]
        assert arrays == [key]
        return list(answer[key])


@pytest.fixture
def installation() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.start()
        installation.wait_connected()
        yield installation
    finally:
        installation.close()


@pytest.fixture
def provider(installation: Installation) -> Iterator[Provider]:
    provider = Provider(installation.url, (installation.directory / "secrets/admin-password").read_text().strip())
    yield provider
    assert provider.log_ins == 2
    provider.close()


def test_the_life_of_a_configuration(installation: Installation, provider: Provider) -> None:
    """Apply, change the group in every way, and destroy; with data on a disk that goes through all of it."""
    names = ("first", "second", "third")
    production = {name: provider.create_volume("az1", name) for name in names}
    recovery = {name: provider.create_volume("az2", f"{name}-dr") for name in names}
    assert provider.update_volume(production["third"], "renamed")["name"] == "renamed"
    # The configuration may name the DR disk first.
    orders = {name: [production[name], recovery[name]] for name in names} | {
        "second": [recovery["second"], production["second"]]
    }
    pairs = {name: provider.create_pair(orders[name], "az1", name) for name in names}
    assert {pair["id"] for pair in provider.list_all(PAIRS, "replications")} == set(pairs.values())

    group_id = provider.create_group([pairs["first"], pairs["second"]], "group")
    # Nothing waits for the copy to end: the next run pauses it wherever it is.
    assert provider.update_group(group_id, name="other")["name"] == "other"
    assert provider.update_group(group_id)["name"] == "other"
    changed = provider.update_group(group_id, pair_ids=[pairs["second"], pairs["third"]], description="changed")
    assert (set(changed["replication_ids"]), changed["description"]) == ({pairs["second"], pairs["third"]}, "changed")
    assert [group["id"] for group in provider.list_all(GROUPS, f"{GROUP}s")] == [group_id]

    wait_for(lambda: provider.read_group(group_id)["replication_status"] == "active", "an active group")
    assert provider.read_pair(pairs["second"])["progress"] == "100"
    with open_client(installation.connect(production["second"])) as host:
        host.write(4096, b"terraform" * 100)
    with (installation.directory / "az2/pool" / f"{recovery['second']}.raw").open("rb") as file:
        file.seek(4096)
        assert file.read(900) == b"terraform" * 100
    installation.disconnect(production["second"])

    # What left the group can be destroyed at once, and what is in it afterwards.
    destroy(provider, pairs["first"], orders["first"])
    provider.delete_group(group_id)
    for name in ("second", "third"):
        destroy(provider, pairs[name], orders[name])
    assert provider.list_all(PAIRS, "replications") == provider.list_all("volumes/detail", "volumes") == []


def destroy(provider: Provider, pair_id: str, volume_ids: list[str]) -> None:
    """Destroy a pair, then its volumes, each as soon as the thing before is a 404."""
    provider.delete_pair(pair_id)
    for volume_id in volume_ids:
        provider.delete_volume(volume_id)
