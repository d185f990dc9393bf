"""Extending a volume that is in no pair, by real processes, under a connected host, and with kills half-way."""

from __future__ import annotations

import random
import signal

import pytest

from tests.support.installation import Installation, open_client, wait_for
from tests.support.stores import pattern
from twinsite.core.limits import GIB
from twinsite.pidfile import LivingProcess

DATA = pattern(4096, 9)


def ask(installation: Installation, volume_id: str, size_gib: int) -> None:
    """Ask for an extension."""
    installation.call("POST", f"/volumes/{volume_id}/action", {"os-extend": {"new_size": size_gib}})


def wait_grown(installation: Installation, volume_id: str, status: str, size_gib: int) -> None:
    """Wait until the API shows the new size."""

    def is_grown() -> bool:
        volume = installation.volume(volume_id)
        assert volume["status"] in ("extending", status), volume
        return bool((volume["status"], volume["size"]) == (status, size_gib))

    wait_for(is_grown, "the new size")


def test_a_volume_grows_under_its_host(installation: Installation) -> None:
    volume_id = installation.create_volume("az1")
    uri = installation.connect(volume_id)
    with open_client(uri) as before:
        before.write(GIB - len(DATA), DATA)
        ask(installation, volume_id, 2)
        wait_grown(installation, volume_id, "in-use", 2)
        with open_client(uri) as after:
            assert (before.size_bytes, after.size_bytes) == (GIB, 2 * GIB)
            assert after.read(2 * GIB - len(DATA), len(DATA)) == bytes(len(DATA))
            after.write(2 * GIB - len(DATA), DATA)
            assert after.read(GIB - len(DATA), len(DATA)) == DATA
        assert before.read(GIB - len(DATA), len(DATA)) == DATA
    installation.disconnect(volume_id)
    ask(installation, volume_id, 3)
    wait_grown(installation, volume_id, "available", 3)
    assert installation.connect(volume_id) == uri
    with open_client(uri) as client:
        assert client.size_bytes == 3 * GIB
        assert client.read(2 * GIB - len(DATA), len(DATA)) == DATA


@pytest.mark.parametrize("victim", ["controller/run/controller.pid", "az1/run/node.pid", "az1/run/w/$.pid"])
def test_a_kill_half_way_delays_it_and_loses_nothing(installation: Installation, victim: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    volume_id = installation.create_volume("az1")
    uri = installation.connect(volume_id)
    with open_client(uri) as client:
        client.write(0, DATA)
        client.flush()
    ask(installation, volume_id, 2)
    pid = installation.pid(victim.replace("$", volume_id))
    if random.Random(seed).random() < 0.5:
        installation.volume(volume_id)  # Some time for the first steps.
    with LivingProcess(pid) as process:
        process.send_signal(signal.SIGKILL)
    wait_for(installation.is_answering, "the controller")
    wait_grown(installation, volume_id, "in-use", 2)
    with open_client(uri) as client:
        assert client.size_bytes == 2 * GIB
        assert client.read(0, len(DATA)) == DATA
        client.write(2 * GIB - len(DATA), DATA)
