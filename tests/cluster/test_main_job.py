"""The main job through the front door: `up`, the HTTP API, real NBD peers, real faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import pytest

from tests.support.api_group import Group
from tests.support.installation import WAIT_SECONDS_MAX, Installation, open_client, wait_for
from twinsite.pidfile import LivingProcess

GIB = 1024**3
MIB = 1024**2


def test_a_copied_filesystem_arrives(installation: Installation) -> None:
    group = Group(installation, 1)
    source = installation.directory / "source"
    image = installation.directory / "image"
    source.mkdir()
    (source / "letter").write_text("dear twin\n" * 10_000)
    (source / "noise").write_bytes(os.urandom(9 * MIB))
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", source, image, "64M"], check=True)
    subprocess.run(["nbdcopy", image, installation.connect(group.production[0])], check=True, timeout=WAIT_SECONDS_MAX)
    assert group.show()["replication_status"] == "inactive"
    group.synchronize()
    group.assert_twins_equal()
    dr = group.pool_file(group.dr[0])
    subprocess.run(["/sbin/e2fsck", "-fn", dr], check=True, capture_output=True)
    read = subprocess.run(["/sbin/debugfs", "-R", "cat letter", dr], check=True, capture_output=True)
    assert read.stdout == (source / "letter").read_bytes()


def test_fio_verifies_while_a_sync_runs(installation: Installation) -> None:
    group = Group(installation, 2)
    uris = [installation.connect(volume_id) for volume_id in group.production]
    with open_client(uris[0]) as client:
        for offset in range(0, 256 * MIB, MIB):
            client.write(offset, os.urandom(64) * (MIB // 64))
    command = ["fio", "--name=verify", "--ioengine=nbd", f"--uri={uris[0]}", "--rw=randwrite", "--bs=4k-64k"]
    command += ["--size=192m", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"]
    command += ["--output-format=json"]
    fio = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    group.act("sync")
    output, _ = fio.communicate(timeout=WAIT_SECONDS_MAX)
    assert fio.returncode == 0, output
    job = json.loads(output[output.index("{") :])["jobs"][0]
    assert job["error"] == 0
    assert job["read"]["total_ios"] > 0, "nothing was verified"
    group.wait_active()
    group.assert_twins_equal()


def test_a_dr_worker_killed_in_the_middle_of_a_sync(installation: Installation) -> None:
    group = Group(installation, 1)
    uri = installation.connect(group.production[0])
    with open_client(uri) as client:
        for offset in range(0, 384 * MIB, MIB):
            client.write(offset, os.urandom(4096) * 256)
    stop = threading.Event()
    acknowledged: list[int] = []

    def stored_bytes(volume: str) -> int:
        return os.stat(group.pool_file(volume)).st_blocks * 512

    def write_on() -> None:
        with open_client(uri) as client:
            number = 0
            while not stop.is_set():
                client.write(512 * MIB + 4096 * (number % 1000), number.to_bytes(8) * 512)
                acknowledged.append(number)
                number += 1

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        with LivingProcess(installation.worker_pid("az2", group.id)) as worker:
            group.act("sync")
            wait_for(lambda: stored_bytes(group.dr[0]) > 32 * MIB, "a sync that has begun")
            worker.send_signal(signal.SIGKILL)
        assert stored_bytes(group.dr[0]) < 384 * MIB, "it was the middle"
        before = len(acknowledged)
        wait_for(lambda: len(acknowledged) > before + 100, "writes that go on without the DR worker")
        group.synchronize()
    finally:
        stop.set()
        writer.join(WAIT_SECONDS_MAX)
    group.assert_twins_equal()
    with open_client(uri) as client:
        last = acknowledged[-1]
        assert client.read(512 * MIB + 4096 * (last % 1000), 8) == last.to_bytes(8)


def test_stop_then_sync_ships_only_what_changed(installation: Installation) -> None:
    group = Group(installation, 2)
    uris = [installation.connect(volume_id) for volume_id in group.production]
    with open_client(uris[1]) as client:
        client.write(0, os.urandom(8 * MIB))
    group.synchronize()
    group.act("stop")
    assert group.show()["replication_status"] == "active-stopped"
    with open_client(uris[0]) as client:
        for number in range(40):
            client.write(number * 17 * MIB, os.urandom(4096))
    with pytest.raises(AssertionError):
        group.assert_twins_equal()
    group.synchronize()
    report = group.show()["twinsite"]["last_resync"]
    assert report["kind"] == "delta"
    assert report["bytes_shipped"] == 40 * 64 * 1024
    group.assert_twins_equal()


def test_pairs_that_leave_a_group_and_come_back_are_copied_whole(installation: Installation) -> None:
    group = Group(installation, 1)
    with open_client(installation.connect(group.production[0])) as client:
        client.write(0, os.urandom(MIB))
    group.synchronize()
    group.act("stop")
    pair_ids = group.show()["replication_ids"]
    group.change(remove_replication_ids=pair_ids)
    # The group's workers are gone; one that knows nothing of the group serves the disk.
    with open_client(installation.connect(group.production[0])) as client:
        client.write(16 * MIB, os.urandom(MIB))
    group.change(add_replication_ids=pair_ids)
    assert group.show()["replication_status"] == "inactive"
    group.synchronize()
    group.assert_twins_equal()


def test_everything_is_found_again_and_goes_on(installation: Installation) -> None:
    group = Group(installation, 1)
    uri = installation.connect(group.production[0])
    with open_client(uri) as client:
        client.write(MIB, b"before" * 1000)
    group.synchronize()
    assert installation.stop()[0] == 0
    installation.start()
    # The status is what was settled before, until the new worker has spoken.
    wait_for(lambda: group.show()["twinsite"]["mode"] == "in_sync", "a worker that is in sync again")
    group.wait_active()
    with open_client(uri) as client:
        assert client.read(MIB, 6) == b"before"
        client.write(2 * MIB, b"after!" * 1000)
    resync = group.show()["twinsite"]["last_resync"]
    assert resync is None or resync["bytes_shipped"] == 0, "a clean restart has nothing to ship"
    group.assert_twins_equal()
