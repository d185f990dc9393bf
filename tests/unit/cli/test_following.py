"""`twinsite group events --follow` as a process that is read and ended as a person does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

from tests.support.running_api import Api

WAIT_SECONDS = 60.0


def test_events_are_printed_as_they_come_until_ctrl_c(api: Api) -> None:
    client = api.client
    disks = [client.create_volume(size_gib=1, zone=zone) for zone in ("az1", "az2")]
    for disk in disks:
        client.wait_for_volume(disk.id, WAIT_SECONDS)
    pair = client.create_pair(volume_ids=[disk.id for disk in disks], priority_station="az1")
    group = client.create_group(pair_ids=[pair.id], priority_station="az1", name="watched")
    client.wait_for_group(group.id, WAIT_SECONDS)
    command = [sys.executable, "-m", "twinsite.cli.main", "group", "events", "watched", "--follow", "-o", "json"]
    # Who runs the tests in a shell's background has it ignored, and so would the command.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--data", str(api.data_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(WAIT_SECONDS, process.kill)
    watchdog.start()
    feed_is_followed = threading.Event()
    try:
        assert process.stdout is not None
        # The stream begins when it is open, which nothing tells: so something happens again and again until it is seen.
        renaming = threading.Thread(target=_rename_until, args=(api, group.id, feed_is_followed))
        renaming.start()
        event = json.loads(process.stdout.readline())
        feed_is_followed.set()
        renaming.join()
        assert event["kinds"][0] == "update"
        assert event["group_name"] == "watched"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_SECONDS)
        assert (process.returncode, errors) == (0, "")
    finally:
        feed_is_followed.set()
        watchdog.cancel()
        process.kill()
        process.wait()


def _rename_until(api: Api, group_id: str, seen: threading.Event) -> None:
    while not seen.wait(0.2):
        api.client.update_group(group_id, name="watched")
        api.client.wait_for_group(group_id, WAIT_SECONDS)
