"""Controller and nodes run by hand, as on machines of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.api_group import Group
from tests.support.installation import open_client, wait_for
from tests.support.parts import Parts
from twinsite.embedded.up import choose_port
from twinsite.nbd_client import NbdClient

DATA = b"twinsite" * 512


@pytest.fixture
def parts() -> Iterator[Parts]:
    """An installation of which nothing runs yet."""
    with ExitStack() as stack:
        yield Parts(stack)


def test_a_node_leaves_its_workers_and_serves_volumes_over_tcp(parts: Parts) -> None:
    installation = parts.installation
    controller = parts.start_controller()
    nbd_port = choose_port("127.0.0.1", 0)
    node = parts.start_node("az1", "--nbd-ports", f"{nbd_port}-{nbd_port}")
    volume_id = installation.create_volume("az1")
    unix_uri = installation.connect(volume_id)
    tcp_uri = f"nbd://127.0.0.1:{nbd_port}/{volume_id}"
    with open_client(tcp_uri) as client:
        client.write(0, DATA)
        worker_pid = installation.worker_pid("az1", volume_id)
        assert parts.end(node) == 0
        assert parts.end(controller) == 0
        # Nothing but the worker is left, and the host does not notice.
        assert installation.living_pids() == [worker_pid]
        assert client.read(0, len(DATA)) == DATA

    parts.start_controller()
    node = parts.start_node("az1", "--stop-workers", "--nbd-ports", f"{nbd_port}-{nbd_port}")
    assert installation.connect(volume_id) == unix_uri
    for uri in (unix_uri, tcp_uri):
        with NbdClient(uri) as client:
            assert client.read(0, len(DATA)) == DATA
    assert installation.worker_pid("az1", volume_id) == worker_pid
    assert parts.end(node) == 0
    assert worker_pid not in installation.living_pids()


def test_a_site_that_is_gone_is_given_up_and_clears_itself_away_when_it_comes_back(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSITE_NODE_SILENCE_SECONDS", "2")
    monkeypatch.setenv("TWINSITE_PRESENCE_SECONDS", "0.5")
    installation = parts.installation
    parts.start_controller()
    parts.start_node("az1", "--stop-workers")
    lost = parts.start_node("az2")
    group = Group(installation, 1)
    group.synchronize()
    (volume_id,) = group.dr
    dead_worker = installation.worker_pid("az2", group.id)
    parts.end(lost, signal.SIGKILL)
    os.kill(dead_worker, signal.SIGKILL)

    def call(method: str, path: str, body: object = None) -> bool:
        try:
            installation.call(method, path, body, version="v2")
        except AssertionError:
            return False
        return True

    wait_for(lambda: call("POST", "/os-vendor-sites/az2/action", {"os-forget-site": None}), "a silent node")
    group.act("stop")
    group.change(remove_replication_ids=group.pair_ids)
    remains = [installation.directory / site / "state" / group.id for site in ("az1", "az2")]
    files = [group.pool_file(disk) for disk in (*group.production, *group.dr)]
    assert [path.exists() for path in remains + files] == [True] * 4
    assert call("DELETE", f"/os-vendor-replication-consistency-groups/{group.id}")
    assert call("DELETE", f"/os-vendor-replications/{group.pair_ids[0]}")
    for disk in (*group.production, *group.dr):
        assert call("DELETE", f"/volumes/{disk}")
    wait_for(lambda: not call("GET", f"/volumes/{group.production[0]}"), "the deletion of the production disk")
    assert not call("GET", f"/volumes/{volume_id}")
    wait_for(lambda: not remains[0].exists() and not files[0].exists(), "an empty az1")
    assert [path.exists() for path in (remains[1], files[1])] == [True, True], "nobody was there to remove it"

    parts.start_node("az2", "--stop-workers")
    remains += [
        installation.directory / "az2" / "run" / "w" / f"{group.id}.pid",
        installation.directory / "az2" / "logs" / f"{group.id}.log",
    ]
    wait_for(lambda: not any(path.exists() for path in (*remains[1:], files[1])), "an empty az2")
    assert call("POST", "/os-vendor-sites/az2/action", {"os-restore-site": None})
    wait_for(lambda: call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az2"}}), "a usable az2")
