"""Volumes: their life, their connections, who may see them."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.controller import GROUPS, Json, Site
from twinsite.api.answers import ConnectionOne, VolumeOne
from twinsite.core.limits import GIB
from twinsite.messages import Failure

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


def connect_body(host: str = "host-1") -> dict[str, object]:
    """Return the body of a connection, with what a real connector carries."""
    return {"os-initialize_connection": {"connector": {"host": host, "ip": "10.0.0.1", "multipath": False}}}


async def test_a_volume_is_created_shown_and_deleted(site: Site) -> None:
    fields = {"size": 3, "availability_zone": "az2", "name": "n", "description": "d", "metadata": {"k": "v"}}
    answer = await site.call("POST", "/volumes", {"volume": fields}, version="v3")
    assert answer.status_code == 202
    created = answer.json()["volume"]
    VolumeOne.model_validate(answer.json())
    assert created["status"] == "creating"
    assert created["updated_at"] is None
    assert TIMESTAMP.fullmatch(created["created_at"])
    assert (await site.show_volume(created["id"]))["status"] == "creating"

    await site.settle()
    assert site.az2.desired is not None
    wanted = site.az2.desired.volumes[0]
    assert (wanted.id, wanted.size_bytes, wanted.volume_type, wanted.deleted) == (created["id"], 3 * GIB, "SSD", False)
    shown = await site.show_volume(created["id"])
    assert shown["status"] == "available"
    assert {key: shown[key] for key in fields} == fields
    assert shown["os-vol-tenant-attr:tenant_id"] == site.project_id
    assert (shown["bootable"], shown["encrypted"], shown["multiattach"]) == ("false", False, False)

    assert (await site.call("DELETE", f"/volumes/{created['id']}")).status_code == 202
    assert (await site.show_volume(created["id"]))["status"] == "deleting"
    again = await site.call("DELETE", f"/volumes/{created['id']}")
    assert "is 'deleting'; this needs 'available' or 'error' or 'error_extending'." in again.text
    assert again.headers["x-twinsite-error-code"] == "EVS.1046"
    await site.settle()
    assert (await site.call("GET", f"/volumes/{created['id']}")).status_code == 404
    assert site.az2.desired.volumes == []


async def test_defaults(site: Site) -> None:
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "name": None, "volume_type": None}})
    volume = answer.json()["volume"]
    assert (volume["availability_zone"], volume["volume_type"], volume["name"]) == ("az1", "SSD", None)


async def test_a_type_may_be_named_by_its_id(site: Site) -> None:
    kinds = (await site.call("GET", "/types")).json()["volume_types"]
    sas = next(kind for kind in kinds if kind["name"] == "SAS")
    assert (await site.make_volume(volume_type=sas["id"]))["volume_type"] == "SAS"
    assert (await site.call("GET", f"/types/{sas['id']}")).json()["volume_type"] == sas
    assert (await site.call("GET", "/types/default")).json()["volume_type"]["name"] == "SSD"


async def test_names_are_bounded_in_bytes(site: Site) -> None:
    name = "ü" * 127 + "x"
    assert len(name.encode()) == 255
    assert (await site.make_volume(name=name))["name"] == name


async def test_a_volume_that_cannot_be_made_is_in_error_and_recovers(site: Site) -> None:
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az1"}})
    volume_id = answer.json()["volume"]["id"]
    site.az1.volume_failures[volume_id] = Failure("37100177", "the pool is full")
    await site.settle()
    shown = await site.show_volume(volume_id)
    assert shown["status"] == "error"
    assert shown["twinsite"]["failure"] == {"code": "37100177", "message": "the pool is full"}
    site.az1.volume_failures.clear()
    await site.settle()
    shown = await site.show_volume(volume_id)
    assert (shown["status"], shown["twinsite"]["failure"]) == ("available", None)


async def test_a_volume_that_fails_under_its_host_is_not_deleted_before_the_host_has_left(site: Site) -> None:
    volume = await site.make_volume()
    path = f"/volumes/{volume['id']}"
    async with site.nodes_running():
        assert (await site.call("POST", f"{path}/action", connect_body())).status_code == 200
    site.az1.volume_failures[volume["id"]] = Failure("37100177", "the bytes are gone")
    await site.settle()
    assert (await site.show_volume(volume["id"]))["status"] == "error"
    refused = await site.call("DELETE", path)
    assert (refused.status_code, refused.headers["x-twinsite-error-code"]) == (400, "EVS.1046")
    assert "host-1" in refused.text
    assert (await site.call("POST", f"{path}/action", {"os-terminate_connection": {}})).status_code == 202
    assert (await site.call("DELETE", path)).status_code == 202
    await site.settle()
    assert (await site.call("GET", path)).status_code == 404


async def test_a_silent_site_is_named_at_once(site: Site) -> None:
    volume = await site.make_volume("az2")
    site.controller.context.presence.silence_seconds = 0.0
    answer = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az2"}})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    message = answer.json()["serviceUnavailable"]["message"]
    assert message.startswith("EVS.5503: 37100043")
    assert "az2" in message
    assert (await site.call("DELETE", f"/volumes/{volume['id']}")).status_code == 503
    assert (await site.show_volume(volume["id"]))["status"] == "available"
    zones = (await site.call("GET", "/os-availability-zone")).json()["availabilityZoneInfo"]
    assert zones[1] == {"zoneName": "az2", "zoneState": {"available": False}}


async def test_update(site: Site) -> None:
    volume = await site.make_volume(name="before", metadata={"a": "b"})
    body = {"volume": {"name": "after", "description": "text", "metadata": {"c": "d"}}}
    answer = await site.call("PUT", f"/volumes/{volume['id']}", body)
    assert answer.status_code == 200
    shown = answer.json()["volume"]
    assert (shown["name"], shown["description"], shown["metadata"]) == ("after", "text", {"c": "d"})
    assert TIMESTAMP.fullmatch(shown["updated_at"])
    answer = await site.call("PUT", f"/volumes/{volume['id']}", {"volume": {}})
    assert answer.json()["volume"]["name"] == "after"


async def test_connecting_and_disconnecting_a_host(site: Site) -> None:
    volume = await site.make_volume()
    async with site.nodes_running():
        answer = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
        assert answer.status_code == 200
        ConnectionOne.model_validate(answer.json())
        info = answer.json()["connection_info"]
        assert info["driver_volume_type"] == "nbd"
        assert info["data"]["uri"] == f"nbd+unix:///{volume['id']}?socket=/run/{volume['id']}.sock"
        assert [entry["transport"] for entry in info["data"]["transports"]] == ["unix", "tcp"]
        shown = await site.show_volume(volume["id"])
        assert shown["status"] == "in-use"
        assert [attachment["host_name"] for attachment in shown["attachments"]] == ["host-1"]

        again = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
        assert again.json() == answer.json()
        other = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body("host-2"))
        assert other.status_code == 400

        for _ in range(2):  # The second time there is nothing to do, which is as good.
            body = {"os-terminate_connection": {"connector": {"host": "host-1"}}}
            assert (await site.call("POST", f"/volumes/{volume['id']}/action", body)).status_code == 202
        shown = await site.show_volume(volume["id"])
        assert (shown["status"], shown["attachments"]) == ("available", [])
    await site.settle()
    assert site.az1.workers == {}


async def test_a_multiattach_volume_takes_several_hosts(site: Site) -> None:
    volume = await site.make_volume(multiattach=True)
    async with site.nodes_running():
        for host in ("host-1", "host-2"):
            answer = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body(host))
            assert answer.status_code == 200
        await site.call(
            "POST", f"/volumes/{volume['id']}/action", {"os-terminate_connection": {"connector": {"host": "host-1"}}}
        )
        assert (await site.show_volume(volume["id"]))["status"] == "in-use"
        await site.call("POST", f"/volumes/{volume['id']}/action", {"os-terminate_connection": None})
        assert (await site.show_volume(volume["id"]))["status"] == "available"


async def test_the_solo_worker_that_is_wanted(site: Site) -> None:
    volume = await site.make_volume()
    generation = site.az1.generation
    call = asyncio.create_task(site.call("POST", f"/volumes/{volume['id']}/action", connect_body()))
    desired = await site.az1.post(wait_seconds=10)
    assert desired.generation > generation
    (spec,) = desired.workers
    assert (spec.id, spec.role, spec.replication) == (volume["id"], "solo", "paused")
    assert [(member.index, member.volume_id, member.size_bytes) for member in spec.members] == [(0, volume["id"], GIB)]
    assert not call.done()
    site.az1.obey(desired)
    await site.az1.post()
    assert (await call).status_code == 200


async def test_node_and_worker_are_told_which_request_changed_a_volume(site: Site) -> None:
    body = {"volume": {"size": 1, "availability_zone": "az1", "multiattach": True}}
    made = await site.call("POST", "/volumes", body)
    await site.settle()
    path = f"/volumes/{made.json()['volume']['id']}/action"

    def told() -> list[str]:
        assert site.az1.desired is not None
        (volume,) = site.az1.desired.volumes
        return [volume.request_id, *(worker.request_id for worker in site.az1.desired.workers)]

    async def asked(action: Json) -> str:
        async with site.nodes_running():
            answer = await site.call("POST", path, action)
        assert answer.status_code in (200, 202), answer.text
        await site.settle()
        return str(answer.headers["x-openstack-request-id"])

    assert told() == [made.headers["x-openstack-request-id"]]
    connected = await asked({"os-initialize_connection": {"connector": {"host": "host-1"}}})
    assert told() == [connected] * 2
    await asked({"os-initialize_connection": {"connector": {"host": "host-2"}}})
    assert told() == [connected] * 2, "the second host changes nothing"
    extended = await asked({"os-extend": {"new_size": 2}})
    assert told() == [extended] * 2


async def test_a_connection_that_nobody_serves_is_given_up_and_leaves_nothing(site: Site) -> None:
    volume = await site.make_volume()
    site.settings.connect_wait_seconds = 0.05
    answer = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
    assert answer.status_code == 503
    assert "37100043" in answer.text
    shown = await site.show_volume(volume["id"])
    assert (shown["status"], shown["attachments"]) == ("available", [])


async def test_a_worker_that_cannot_start_is_named(site: Site) -> None:
    volume = await site.make_volume()
    site.az1.worker_failures[volume["id"]] = Failure("37000212", "the worker keeps dying")
    async with site.nodes_running():
        answer = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
    assert answer.status_code == 503
    assert "the worker keeps dying" in answer.text


async def test_a_volume_in_a_group_is_served_by_the_primary_worker(site: Site) -> None:
    group = await site.make_group()
    production, dr = (await site.show_pair(group["replication_ids"][0]))["volume_ids"].split(",")
    async with site.nodes_running():
        answer = await site.call("POST", f"/volumes/{production}/action", connect_body())
        assert answer.status_code == 200
        refused = await site.call("POST", f"/volumes/{dr}/action", connect_body())
        assert refused.status_code == 400
        assert group["replication_ids"][0] in refused.text
        assert production in refused.text
    await site.settle()
    assert set(site.az1.workers) == {group["id"]}
    assert (await site.show_volume(production))["status"] == "in-use"
    assert (await site.call("GET", f"{GROUPS}?volume_id={production}")).json() != {"replication_consistency_groups": []}


async def test_uris_are_those_of_the_volume_whoever_serves_it(site: Site) -> None:
    volume = await site.make_volume()
    async with site.nodes_running():
        alone = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
        dr = await site.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az2"}})
        body = {
            "volume_ids": [volume["id"], dr.json()["volume"]["id"]],
            "priority_station": "az1",
            "replication_model": "hypermetro",
        }
        pair = await site.call("POST", "/os-vendor-replications", {"replication": body})
        assert pair.status_code == 202
    await site.settle()
    fields = {"replication_ids": [pair.json()["replication"]["id"]], "priority_station": "az1"}
    fields["replication_model"] = "hypermetro"
    assert (await site.call("POST", GROUPS, {"replication_consistency_group": fields})).status_code == 202
    async with site.nodes_running():
        grouped = await site.call("POST", f"/volumes/{volume['id']}/action", connect_body())
    assert grouped.json() == alone.json()


@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_limits_and_quotas_count(site: Site, version: str) -> None:
    await site.make_volume(size=2)
    await site.make_volume(size=3)
    absolute = (await site.call("GET", "/limits", version=version)).json()["limits"]["absolute"]
    assert (absolute["totalVolumesUsed"], absolute["totalGigabytesUsed"]) == (2, 5)
    quota = await site.call("GET", f"/os-quota-sets/{site.project_id}?usage=True", version=version)
    assert quota.json()["quota_set"]["gigabytes"] == {"limit": 10_000_000, "in_use": 5, "reserved": 0}
    quota = await site.call("GET", f"/os-quota-sets/{site.project_id}", version=version)
    assert quota.json()["quota_set"]["gigabytes"] == 10_000_000
