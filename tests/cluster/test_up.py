"""`twinsite up` with all its processes: starting, ending, and every kind of process killed at a bad moment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.installation import COMMAND, WAIT_SECONDS_MAX, Installation, open_client, wait_for
from twinsite.nbd_client import NbdClient
from twinsite.pidfile import living_pid

DATA = bytes(range(1, 256)) * 64


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation that is not started yet."""
    made = Installation()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """A running installation that several tests share; each leaves it working."""
    made = Installation()
    made.start()
    yield made
    try:
        assert made.stop()[0] == 0
        assert made.living_pids() == []
    finally:
        made.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the service commands to its end."""
    command = [*COMMAND, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_everything_ends_with_up(installation: Installation, number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Who runs the tests under nohup has it ignored, and so would `up`.
    installation.start()
    volume_id = installation.create_volume("az1")
    with open_client(installation.connect(volume_id)) as client:
        client.write(0, DATA)
    assert len(installation.living_pids()) == 5, "up, controller, two nodes and a worker"
    assert installation.stop(number) == (0, "", "")
    assert installation.living_pids() == []
    assert list((installation.directory / "az1/run/n").iterdir()) == []
    assert list((installation.directory / "az1/run/w").iterdir()) == []
    for part in ("up.pid", "controller/run/controller.pid", "az1/run/node.pid", "az2/run/node.pid"):
        assert living_pid(installation.directory / part) is None


def test_a_signal_during_the_start_ends_everything(installation: Installation) -> None:
    process = installation.launch()
    installation.pid("controller/run/controller.pid")
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=WAIT_SECONDS_MAX)
    installation.process = None
    assert (process.returncode, output, errors) == (0, "", "")
    assert installation.living_pids() == []


def test_everything_is_found_again(installation: Installation) -> None:
    installation.start()
    attached, idle = installation.create_volume("az1"), installation.create_volume("az2")
    uri = installation.connect(attached)
    with open_client(uri) as client:
        client.write(4096, DATA)
        client.flush()
    idle_uri = installation.connect(idle)
    installation.call(
        "POST", f"/volumes/{idle}/action", {"os-terminate_connection": {"connector": {"host": "test-host"}}}
    )
    secrets = [path.read_text() for path in sorted((installation.directory / "secrets").iterdir())]
    assert installation.stop()[0] == 0

    installation.start()
    assert [path.read_text() for path in sorted((installation.directory / "secrets").iterdir())] == secrets
    # The worker of the attached volume serves before the ready line, so this does not wait.
    with NbdClient(uri) as client:
        assert client.read(4096, len(DATA)) == DATA
    assert installation.connect(attached) == uri
    assert installation.connect(idle) == idle_uri
    installation.stop()


def test_secrets_are_private_and_in_no_log(installation: Installation) -> None:
    installation.start("--log-json")
    installation.connect(installation.create_volume("az1"))
    installation.stop()
    private = [installation.directory / name for name in ("clouds.yaml", "openrc", "secrets/admin-password")]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    secrets = [path.read_text().strip() for path in (installation.directory / "secrets").iterdir()]
    logs = [path.read_text() for path in installation.directory.rglob("*.log")]
    assert len(logs) == 4, "controller, two nodes and a worker"
    assert all(line.startswith("{") for text in logs for line in text.splitlines())
    assert not any(secret in text for secret in secrets for text in logs)


def test_what_cannot_work_is_one_sentence(installation: Installation) -> None:
    data = str(installation.directory)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("up", "--data", data, "--port", str(port))
        assert refused.returncode == 2
        assert refused.stderr == f"twinsite: port {port} on 127.0.0.1 is in use; choose another one with --port\n"
    refused = run("up", "--data", f"{data}/{'d' * 90}", "--port", "0")
    assert refused.returncode == 2
    assert "too long" in refused.stderr
    assert not (installation.directory / ("d" * 90)).exists()
    refused = run("node", "--site", "az1", "--data", data, "--controller", "http://127.0.0.1:1", "--token-file", "/no")
    assert refused.returncode == 2
    assert "token file /no" in refused.stderr
    (installation.directory / "twinsite.toml").write_text('availability_zones = ["az1"]\n')
    refused = run("up", "--data", data, "--port", "0")
    assert refused.returncode == 2
    assert "availability_zones" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert installation.living_pids() == []


def test_a_controller_that_cannot_start_is_told_with_its_last_words(installation: Installation) -> None:
    (installation.directory / "controller").mkdir()
    (installation.directory / "controller/twinsite.db").write_bytes(b"this is no database" * 100)
    refused = subprocess.run(
        installation.command(), check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX
    )
    assert refused.returncode == 2
    assert "controller ended at its start" in refused.stderr
    assert "controller.log" in refused.stderr
    assert "not a database" in refused.stderr
    assert installation.living_pids() == []


def test_up_after_a_killed_up_takes_over_the_workers(installation: Installation) -> None:
    installation.start()
    volume_id = installation.create_volume("az1")
    uri = installation.connect(volume_id)
    worker_pid = installation.worker_pid("az1", volume_id)
    leftovers = {
        installation.pid(f"{part}.pid") for part in ("controller/run/controller", "az1/run/node", "az2/run/node")
    }
    with open_client(uri) as client:
        installation.stop(signal.SIGKILL)
        assert set(installation.living_pids()) == {*leftovers, worker_pid}
        client.write(0, DATA)
        installation.start()
        assert installation.worker_pid("az1", volume_id) == worker_pid
        assert client.read(0, len(DATA)) == DATA, "the host's connection outlived it all"
        assert leftovers.isdisjoint(installation.living_pids())
        assert installation.volume(volume_id)["id"] == volume_id
    installation.stop()
    assert installation.living_pids() == []


def test_everything_killed_at_once_is_found_again(installation: Installation) -> None:
    installation.start()
    volume_id = installation.create_volume("az2")
    uri = installation.connect(volume_id)
    with open_client(uri) as client:
        client.write(0, DATA)
    for pid in installation.living_pids():
        os.kill(pid, signal.SIGKILL)
    installation.stop(signal.SIGKILL)
    installation.start()
    with open_client(uri) as client:
        assert client.read(0, len(DATA)) == DATA
    assert installation.stop()[0] == 0


def test_a_second_up_is_refused(running: Installation) -> None:
    second = run("up", "--data", str(running.directory), "--port", "0")
    assert second.returncode == 2
    assert second.stdout == ""
    assert second.stderr.startswith("twinsite: ")
    assert "already running" in second.stderr
    running.create_volume("az1")  # The first one was not disturbed.


def test_a_node_of_a_site_runs_once(running: Installation) -> None:
    token = running.directory / "secrets/node-token"
    arguments = ("--data", str(running.directory), "--controller", running.url, "--token-file", str(token))
    second = run("node", "--site", "az1", *arguments)
    assert second.returncode == 2
    assert "already running" in second.stderr


def kill_and_await_successor(running: Installation, pid_file: str) -> None:
    """Kill the process that holds a pid file, and wait until another one holds it."""
    pid = running.pid(pid_file)
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: living_pid(running.directory / pid_file) not in (None, pid), f"a new process that holds {pid_file}"
    )


def test_a_killed_node_does_not_touch_io_and_its_successor_adopts(running: Installation) -> None:
    volume_id = running.create_volume("az1")
    with open_client(running.connect(volume_id)) as client:
        worker_pid = running.worker_pid("az1", volume_id)
        kill_and_await_successor(running, "az1/run/node.pid")
        client.write(0, DATA)  # On the same connection.
        # The new node does its work: another volume is made and served.
        with open_client(running.connect(running.create_volume("az1"))) as other:
            other.write(0, DATA)
        assert client.read(0, len(DATA)) == DATA
        assert running.worker_pid("az1", volume_id) == worker_pid


def test_a_killed_worker_comes_back_with_its_data(running: Installation) -> None:
    volume_id = running.create_volume("az1")
    uri = running.connect(volume_id)
    with open_client(uri) as client:
        client.write(0, DATA)
    kill_and_await_successor(running, f"az1/run/w/{volume_id}.pid")
    with open_client(uri) as client:
        assert client.read(0, len(DATA)) == DATA


def test_a_killed_controller_comes_back_and_io_goes_on(running: Installation) -> None:
    volume_id = running.create_volume("az1")
    with open_client(running.connect(volume_id)) as client:
        kill_and_await_successor(running, "controller/run/controller.pid")
        client.write(0, DATA)
        wait_for(running.is_answering, "the API")
        assert running.volume(volume_id)["id"] == volume_id
        running.wait_connected()
        running.create_volume("az2")  # The nodes found it too.
        assert client.read(0, len(DATA)) == DATA


def test_a_site_is_lost_for_a_rehearsal_until_it_is_brought_back(installation: Installation) -> None:
    installation.start()
    volume_id = installation.create_volume("az1")
    with open_client(installation.connect(volume_id)) as client:
        client.write(0, DATA)
        lost = run_cli("rehearse", "lose", "az1", "--data", str(installation.directory))
        assert lost.returncode == 0, lost.stderr
        assert "2 of its processes were killed" in lost.stdout
    assert living_pid(installation.directory / "az1/run/node.pid") is None
    assert installation.stop()[0] == 0
    installation.start()
    assert living_pid(installation.directory / "az1/run/node.pid") is None, "a restart brings no lost site back"
    unknown = run_cli("rehearse", "lose", "az9", "--data", str(installation.directory))
    assert (unknown.returncode, "there are az1, az2" in unknown.stderr) == (2, True)
    back = run_cli("rehearse", "return", "az1", "--data", str(installation.directory))
    assert back.returncode == 0, back.stderr
    wait_for(lambda: living_pid(installation.directory / "az1/run/node.pid") is not None, "the node of az1")


def test_nothing_is_lost_where_nothing_runs(installation: Installation) -> None:
    installation.start()
    assert installation.stop()[0] == 0
    refused = run_cli("rehearse", "lose", "az1", "--data", str(installation.directory))
    assert (refused.returncode, "no 'twinsite up' runs" in refused.stderr) == (2, True)


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "twinsite.cli.main", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
