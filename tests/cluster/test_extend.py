"""Extending the disks of an active group of real processes, under a host that writes, and with kills half-way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.api_group import Group
from tests.support.installation import WAIT_SECONDS_MAX, Installation, open_client, wait_for
from tests.support.numbered_writer import NumberedWriter
from tests.support.stores import pattern
from twinsite.core.limits import GIB
from twinsite.pidfile import LivingProcess

SLOTS = 2048
DATA = pattern(4096, 9)
KILL_SECONDS_MAX = 1.0
"""About as long as an extension takes."""
ATTEMPTS_MAX = 10
UNREACHABLE = 3
"""The exit status of a command that did not reach the API."""


def extend(group: Group, *sizes_gib: int) -> None:
    """Do what an operator does: ask for it, and again as long as the API is out of reach."""
    pairs = [f"{pair_id}={size_gib}" for pair_id, size_gib in zip(group.pair_ids, sizes_gib, strict=True)]
    command = [sys.executable, "-m", "twinsite.cli.main", "group", "extend", group.id, *pairs, "--wait"]
    for _ in range(ATTEMPTS_MAX):
        result = subprocess.run(
            [*command, "--data", str(group.installation.directory)],
            capture_output=True,
            text=True,
            timeout=2 * WAIT_SECONDS_MAX,
            check=False,
        )
        if result.returncode != UNREACHABLE:
            break
        wait_for(group.installation.is_answering, "the controller")
    assert result.returncode == 0, result.stdout + result.stderr


def check_grown(group: Group, *sizes_gib: int) -> None:
    """Check the sizes that the API and hosts see, and that the last byte of each disk has a twin."""
    for production, dr, size_gib in zip(group.production, group.dr, sizes_gib, strict=True):
        assert [group.installation.volume(volume_id)["size"] for volume_id in (production, dr)] == [size_gib] * 2
        with open_client(group.installation.connect(production)) as client:
            assert client.size_bytes == size_gib * GIB
            assert client.read(client.size_bytes - len(DATA), len(DATA)) == bytes(len(DATA))
            client.write(client.size_bytes - len(DATA), DATA)
    group.wait_active()
    group.assert_twins_equal()


def active_group(installation: Installation, pair_count: int) -> tuple[Group, str]:
    group = Group(installation, pair_count)
    uri = installation.connect(group.production[0])
    with open_client(uri) as client:
        client.write(0, DATA)
    group.synchronize()
    return group, uri


def test_a_group_is_extended_under_a_host_that_writes(installation: Installation) -> None:
    group, uri = active_group(installation, 2)
    before = group.show()
    with NumberedWriter(uri, slots=SLOTS, delay_seconds=0.001) as writer:
        writer.wait_for_more(20)
        extend(group, 2, 3)
        writer.wait_for_more(20)
        after = group.show()
    check_grown(group, 2, 3)
    for file in (group.pool_file(group.production[0]), group.pool_file(group.dr[0])):
        writer.check_disk(file)
    assert (after["status"], after["replication_status"]) == ("available", "active")
    assert after["twinsite"]["counters"]["stream_connects"] == before["twinsite"]["counters"]["stream_connects"]
    assert after["twinsite"]["last_resync"]["started_at"] == before["twinsite"]["last_resync"]["started_at"]


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(
    "victim",
    ["controller/run/controller.pid", "az1/run/node.pid", "az2/run/node.pid", "az1/run/w/$.pid", "az2/run/w/$.pid"],
)
def test_a_kill_half_way_delays_an_extension_and_loses_nothing(
    installation: Installation, victim: str, seed: int
) -> None:
    print(f"seed {seed}")
    source = random.Random(f"{victim} {seed}")
    group, uri = active_group(installation, 1)
    pid = installation.pid(victim.replace("$", group.id))
    with ExitStack() as stack:
        if not victim.startswith("az1/run/w"):
            writer = stack.enter_context(NumberedWriter(uri, slots=SLOTS, delay_seconds=0.001))
            writer.wait_for_more(5)
        extending = stack.enter_context(ThreadPoolExecutor(1)).submit(extend, group, 2)
        time.sleep(source.uniform(0, 2 * KILL_SECONDS_MAX))
        with LivingProcess(pid) as process:
            process.send_signal(signal.SIGKILL)
        extending.result()
    wait_for(installation.is_answering, "the controller")
    installation.wait_connected()
    group.wait_active()
    check_grown(group, 2)
    with open_client(installation.connect(group.production[0])) as client:
        if victim.startswith("az1/run/w"):
            assert client.read(0, len(DATA)) == DATA
    if not victim.startswith("az1/run/w"):
        writer.check_disk(group.pool_file(group.production[0]))
        writer.check_disk(group.pool_file(group.dr[0]))
