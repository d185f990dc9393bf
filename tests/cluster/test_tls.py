"""`twinsite up --tls`: everybody speaks TLS, and everybody looks who answers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.installation import WAIT_SECONDS_MAX, Installation, wait_for


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation that is not started yet."""
    made = Installation()
    yield made
    made.close()


def run(installation: Installation, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a client that knows only the files of the installation."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(installation.directory), **variables}
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, env=environment
    )


def test_a_group_over_tls(installation: Installation) -> None:
    installation.start("--tls")
    assert installation.url.startswith("https://127.0.0.1:")
    production, dr = installation.create_volume("az1"), installation.create_volume("az2")
    pair = {"volume_ids": [production, dr], "priority_station": "az1", "replication_model": "hypermetro"}
    kinds = ("/os-vendor-replications", "/os-vendor-replication-consistency-groups")
    made = installation.call("POST", kinds[0], {"replication": pair}, version="v2")["replication"]
    wanted = {"replication_ids": [made["id"]], "priority_station": "az1", "replication_model": "hypermetro"}
    body = {"replication_consistency_group": wanted}
    group = installation.call("POST", kinds[1], body, version="v2")["replication_consistency_group"]
    path = f"{kinds[1]}/{group['id']}"

    def is_status(key: str, value: str) -> bool:
        shown = installation.call("GET", path, version="v2")["replication_consistency_group"]
        return bool(shown[key] == value)

    wait_for(lambda: is_status("status", "available"), "the group")
    installation.call("POST", f"{path}/action", {"os-sync-replication-consistency-group": None}, version="v2")
    # The primary asks the arbiter, over TLS, before it says that it is in sync.
    wait_for(lambda: is_status("replication_status", "active"), "the synchronization")
    installation.call("POST", f"{path}/action", {"os-stop-replication-consistency-group": None}, version="v2")

    twinsite = (sys.executable, "-m", "twinsite.cli.main")
    listed = run(installation, *twinsite, "volume", "list", "-o", "json", "--data", str(installation.directory))
    assert {volume["id"] for volume in json.loads(listed.stdout)} == {production, dr}, listed.stderr
    openstack = os.path.join(os.path.dirname(sys.executable), "openstack")
    clouds = {"OS_CLIENT_CONFIG_FILE": str(installation.directory / "clouds.yaml"), "OS_CLOUD": "twinsite"}
    listed = run(installation, openstack, "volume", "list", "-f", "json", **clouds)
    assert {volume["ID"] for volume in json.loads(listed.stdout)} == {production, dr}, listed.stderr
    command = f'. {installation.directory}/openrc && curl -sf --cacert "$OS_CACERT" "$OS_AUTH_URL"'
    assert run(installation, "sh", "-c", command).returncode == 0
    for key in ("ca.key", "server.pem"):
        assert stat.S_IMODE((installation.directory / "tls" / key).stat().st_mode) == 0o600
    # Who does not know the authority is told so, and does not send the password.
    clouds_file = installation.directory / "clouds.yaml"
    clouds_file.write_text(clouds_file.read_text().replace("cacert:", "unused:"))
    refused = run(installation, *twinsite, "volume", "list", "--data", str(installation.directory))
    assert refused.returncode == 3
    assert "certificate" in refused.stderr.lower()
    assert installation.stop()[0] == 0


def test_from_plain_to_tls_and_back(installation: Installation) -> None:
    installation.start()
    volume_id = installation.create_volume("az1")
    assert installation.stop()[0] == 0
    installation.start("--tls")
    authority = (installation.directory / "tls/ca.pem").read_bytes()
    installation.wait_connected()
    assert installation.volume(volume_id)["status"] == "available"
    assert installation.stop()[0] == 0
    installation.start("--tls")
    assert (installation.directory / "tls/ca.pem").read_bytes() == authority
    assert installation.stop()[0] == 0
    installation.start()
    assert installation.url.startswith("http://")
    assert "cacert" not in (installation.directory / "clouds.yaml").read_text()
    assert installation.stop()[0] == 0
