"""openstacksdk and the command `openstack` against `twinsite up`: volumes from their creation to their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstack.config.loader import OpenStackConfig

from tests.support.installation import Installation, open_client
from tests.support.openstack_command import environment_for
from tests.support.openstack_command import openstack as run_command

# The SDK warns about what its own defaults will lose; nothing of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

GIB = 1024**3
WAIT: dict[str, float] = {"interval": 0.05, "wait": 30}


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.start()
        installation.wait_connected()
        yield installation
    finally:
        installation.close()


def test_openstacksdk(installation: Installation) -> None:
    """With the clouds.yaml that `up` has written."""
    config = OpenStackConfig(config_files=[str(installation.directory / "clouds.yaml")], load_envvars=False)
    with openstack.connection.Connection(config=config.get_one("twinsite")) as connection:
        storage: Any = connection.block_storage
        before = storage.get_limits().absolute.total_volumes_used
        assert {zone.name for zone in storage.availability_zones() if zone.state["available"]} == {"az1", "az2"}
        assert [kind.name for kind in storage.types()] == ["SSD", "SAS", "SATA"]
        made = storage.create_volume(size=1, name="sdk", availability_zone="az2", volume_type="SAS")
        volume = storage.wait_for_status(made, "available", ["error"], **WAIT)
        assert (volume.size, volume.availability_zone, volume.volume_type) == (1, "az2", "SAS")
        assert [item.id for item in storage.volumes(name="sdk")] == [volume.id]
        assert storage.get_limits().absolute.total_volumes_used == before + 1
        assert storage.update_volume(volume, name="renamed", description="a b").description == "a b"
        storage.extend_volume(volume, 2)
        volume = storage.wait_for_status(storage.get_volume(volume.id), "available", ["error"], **WAIT)
        assert (volume.name, volume.size) == ("renamed", 2)
        with open_client(installation.connect(volume.id)) as host:
            assert host.size_bytes == 2 * GIB
            host.write(2 * GIB - 4096, b"x" * 4096)
        installation.disconnect(volume.id)
        storage.delete_volume(volume)
        storage.wait_for_delete(volume, **WAIT)
        assert storage.find_volume("renamed") is None


async def test_the_command(installation: Installation, tmp_path: Path) -> None:
    password = (installation.directory / "secrets" / "admin-password").read_text().strip()
    environment = environment_for(installation.url, password, tmp_path)

    async def call(*arguments: str, shows: bool = True) -> Any:
        return await run_command(environment, *arguments, *(["-f", "json"] if shows else []))

    zones = await call("availability", "zone", "list", "--volume")
    assert {(zone["Zone Name"], zone["Zone Status"]) for zone in zones} == {("az1", "available"), ("az2", "available")}
    assert [kind["Name"] for kind in await call("volume", "type", "list")] == ["SSD", "SAS", "SATA"]
    made = await call("volume", "create", "--size", "1", "--availability-zone", "az1", "--property", "a=b", "disk")
    installation.call("GET", f"/volumes/{made['id']}")
    await call("volume", "set", "--name", "renamed", "--description", "c", "--property", "d=e", "disk", shows=False)
    await call("volume", "set", "--size", "3", "renamed", shows=False)
    shown = await call("volume", "show", "renamed")
    assert (shown["id"], shown["description"], shown["properties"]) == (made["id"], "c", {"a": "b", "d": "e"})
    (listed,) = await call("volume", "list")
    assert (listed["Name"], listed["Size"], listed["Status"]) == ("renamed", 3, "available")
    limits = {limit["Name"]: limit["Value"] for limit in await call("limits", "show", "--absolute")}
    assert limits["total_volumes_used"] == 1
    await call("volume", "delete", "renamed", shows=False)
