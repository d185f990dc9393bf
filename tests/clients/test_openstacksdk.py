"""openstacksdk against a real server: log in from a clouds.yaml, work with volumes, call the replication interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openstack
import pytest
import yaml
from openstack.config.loader import OpenStackConfig

from tests.support.controller import Site, make_settings, serve

# The SDK warns about what its own defaults will lose; nothing of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

Result = TypeVar("Result")
PROJECT_SCOPE = {"project_name": "admin", "project_domain_name": "Default"}


def cloud_config(directory: Path, url: str, password: str, scope: dict[str, str]) -> OpenStackConfig:
    """Write a clouds.yaml as `twinsite up` does, and load it."""
    auth = {
        "auth_url": f"{url}/identity/v3",
        "username": "admin",
        "password": password,
        "user_domain_name": "Default",
        **scope,
    }
    path = directory / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"twinsite": {"auth": auth, "region_name": "RegionOne"}}}))
    return OpenStackConfig(config_files=[str(path)], load_envvars=False)


async def with_sdk(directory: Path, work: Callable[[Any], Result], scope: dict[str, str] = PROJECT_SCOPE) -> Result:
    """Run `work` with a connection of openstacksdk, in a thread, against a real server with two fake nodes."""
    settings = make_settings(directory)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        site = Site(server.app, http, settings)

        def run() -> Result:
            config = cloud_config(settings.data_dir, url, site.password, scope)
            with openstack.connection.Connection(config=config.get_one("twinsite")) as connection:
                return work(connection)

        async with site.nodes_running():
            return await asyncio.to_thread(run)


async def test_volumes_are_created_listed_and_deleted(tmp_path: Path) -> None:
    def work(connection: Any) -> None:
        made = [
            connection.block_storage.create_volume(
                size=1, name=f"disk-{index}", availability_zone="az1", metadata={"index": str(index)}
            )
            for index in range(3)
        ]
        for volume in made:
            ready = connection.block_storage.wait_for_status(volume, "available", ["error"], interval=0.05, wait=20)
            assert ready.availability_zone == "az1"
            assert ready.volume_type == "SSD"
        listed = list(connection.block_storage.volumes())
        assert {volume.name for volume in listed} == {"disk-0", "disk-1", "disk-2"}
        # A small page makes the client follow markers to the end.
        paged = list(connection.block_storage.volumes(limit=1))
        assert [volume.id for volume in paged] == [volume.id for volume in listed]
        assert [volume.id for volume in connection.block_storage.volumes(name="disk-1")] == [made[1].id]
        renamed = connection.block_storage.update_volume(made[0], name="renamed")
        assert renamed.name == "renamed"
        assert connection.block_storage.find_volume("renamed", ignore_missing=False).id == made[0].id
        for volume in made:
            connection.block_storage.delete_volume(volume)
            connection.block_storage.wait_for_delete(volume, interval=0.05, wait=20)
        assert list(connection.block_storage.volumes()) == []

    await with_sdk(tmp_path, work)


async def test_types_zones_limits_and_quotas(tmp_path: Path) -> None:
    def work(connection: Any) -> None:
        assert [kind.name for kind in connection.block_storage.types()] == ["SSD", "SAS", "SATA"]
        assert connection.block_storage.find_type("SAS", ignore_missing=False).name == "SAS"
        zones = {zone.name: zone.state for zone in connection.block_storage.availability_zones()}
        assert zones == {"az1": {"available": True}, "az2": {"available": True}}
        assert connection.block_storage.get_limits().absolute.max_total_volumes == 10_000
        quota = connection.block_storage.get_quota_set(connection.current_project_id, usage=True)
        assert quota.volumes == 10_000

    await with_sdk(tmp_path, work)


async def test_the_replication_interface_is_reached_through_the_catalog(tmp_path: Path) -> None:
    def work(connection: Any) -> None:
        proxy = connection.block_storage
        endpoint = connection.session.get_endpoint(service_type="volumev2", interface="public", region_name="RegionOne")
        assert endpoint.endswith(f"/v2/{connection.current_project_id}")
        made = [proxy.create_volume(size=1, availability_zone=zone) for zone in ("az1", "az2")]
        for volume in made:
            proxy.wait_for_status(volume, "available", ["error"], interval=0.05, wait=20)
        pair = {
            "volume_ids": [volume.id for volume in made],
            "priority_station": "az1",
            "replication_model": "hypermetro",
        }
        answer = connection.session.post(f"{endpoint}/os-vendor-replications", json={"replication": pair})
        assert answer.status_code == 202
        assert answer.json()["replication"]["volume_ids"] == ",".join(volume.id for volume in made)

    await with_sdk(tmp_path, work)


@pytest.mark.parametrize("scope", [{"domain_name": "Default"}, {}], ids=["domain", "unscoped"])
async def test_other_scopes_log_in(tmp_path: Path, scope: dict[str, str]) -> None:
    def work(connection: Any) -> None:
        identity = "/identity/v3"
        url = f"{connection.config.config['auth']['auth_url'].removesuffix(identity)}{identity}/auth/projects"
        projects = connection.session.get(url).json()["projects"]
        assert [project["name"] for project in projects] == ["admin"]

    await with_sdk(tmp_path, work, scope)


async def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serve(settings) as (_, url):

        def run() -> None:
            config = cloud_config(settings.data_dir, url, "wrong", PROJECT_SCOPE)
            with openstack.connection.Connection(config=config.get_one("twinsite")) as connection:
                connection.authorize()

        with pytest.raises(openstack.exceptions.SDKException, match=r"401|user or the password"):
            await asyncio.to_thread(run)
