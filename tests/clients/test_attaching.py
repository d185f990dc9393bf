"""What `twinsite volume connect --how` prints, done: each text is run by its tool against a volume that is served."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.installation import Installation
from twinsite.client.attaching import TOOLS, texts
from twinsite.nbd_client import NbdClient

GIB = 1024**3
RUN_SECONDS_MAX = 120
TCP_URI = "nbd://storage.example.com:10810/7c34f0ba-0241-4088-83d3-85f86fe646cc"


@pytest.fixture(scope="module")
def ways(installation: Installation) -> dict[str, str]:
    """What the command says of a volume of it."""
    volume_id = installation.create_volume("az1")
    command = [sys.executable, "-m", "twinsite.cli.main", "volume", "connect", volume_id, "--how", "all", "-o", "json"]
    done = run([*command, "--data", str(installation.directory)])
    told: dict[str, dict[str, str]] = json.loads(done)
    assert set(told["how"]) == set(TOOLS)
    return told["how"]


def run(command: list[str]) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def need(tool: str) -> str:
    """Return a program, or skip the test where it is not installed."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


def test_qemu_takes_the_block_device(ways: dict[str, str], tmp_path: Path) -> None:
    words = shlex.split(ways["qemu"].replace("\\\n", " "))
    assert words[::2] == ["-blockdev", "-device"]
    (node,) = [part.partition("=")[2] for part in words[1].split(",") if part.startswith("node-name=")]
    assert f"drive={node}" in words[3].split(",")
    # The storage daemon parses -blockdev as QEMU does; it serves the device on, and that has the right size.
    socket = tmp_path / "s"
    server = [
        "--nbd-server",
        f"addr.type=unix,addr.path={socket}",
        "--export",
        f"type=nbd,id=e,node-name={node},name=e",
    ]
    command = [
        need("qemu-storage-daemon"),
        "--blockdev",
        words[1],
        *server,
        "--daemonize",
        "--pidfile",
        str(tmp_path / "p"),
    ]
    run(command)
    try:
        shown = json.loads(run([need("nbdinfo"), "--json", f"nbd+unix:///e?socket={socket}"]))
        assert shown["exports"][0]["export-size"] == GIB
    finally:
        subprocess.run(["kill", (tmp_path / "p").read_text().strip()], check=True)


def test_libvirt_xml_leads_to_the_volume(ways: dict[str, str]) -> None:
    disk = ET.fromstring(ways["libvirt"])
    source = disk.find("source")
    assert source is not None
    host = source.find("host")
    assert host is not None
    with NbdClient(f"nbd+unix:///{source.get('name')}?socket={host.get('socket')}") as client:
        assert client.size_bytes == GIB


def test_libnbd_runs_the_program(ways: dict[str, str]) -> None:
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import nbd"], capture_output=True, check=False).returncode != 0:
        pytest.skip("python3-libnbd is not installed")
    assert run([python, "-c", ways["libnbd"]]) == f"{GIB}\n"


def test_nbdcopy_reads_all_of_it(ways: dict[str, str], tmp_path: Path) -> None:
    need("nbdcopy")
    run(["bash", "-ec", f"cd {tmp_path}\n{ways['nbdcopy']}"])
    assert (tmp_path / "backup.img").stat().st_size == GIB


def test_fio_reads_and_writes_nothing(ways: dict[str, str], tmp_path: Path) -> None:
    need("fio")
    command = ways["fio"].replace("--runtime=10", "--runtime=1")
    assert command != ways["fio"]
    run(["bash", "-ec", f"cd {tmp_path}; {command} --output-format=json --output=told"])
    told = json.loads((tmp_path / "told").read_text())
    (job,) = told["jobs"]
    assert (job["error"], job["write"]["total_ios"]) == (0, 0)
    assert job["read"]["total_ios"] > 0


def test_nbd_client_is_given_what_it_takes(ways: dict[str, str]) -> None:
    words = shlex.split(ways["nbd-client"].splitlines()[-1])
    assert words[:2] == ["nbd-client", "-unix"]
    with NbdClient(f"nbd+unix:///{words[words.index('-name') + 1]}?socket={words[2]}") as client:
        assert client.size_bytes == GIB


def test_tcp_is_told_where_there_is_nothing_else() -> None:
    told = texts([TCP_URI])
    assert "server.type=inet,server.host=storage.example.com,server.port=10810" in told["qemu"]
    host = ET.fromstring(told["libvirt"]).find("source/host")
    assert host is not None
    assert (host.get("name"), host.get("port")) == ("storage.example.com", "10810")
    assert "nbd-client storage.example.com 10810 /dev/nbd0" in told["nbd-client"]
    assert texts([TCP_URI, "nbd+unix:///id?socket=/run/s"])["qemu"].count("/run/s") == 1


def test_odd_paths_are_quoted() -> None:
    told = texts(["nbd+unix:///id?socket=/run/a%2Cb%20c%27d"])
    assert "server.path=/run/a,,b c'd" in shlex.split(told["qemu"].replace("\\\n", " "))[1]
    host = ET.fromstring(told["libvirt"]).find("source/host")
    assert host is not None
    assert host.get("socket") == "/run/a,b c'd"
    assert shlex.split(told["nbd-client"].splitlines()[-1])[2] == "/run/a,b c'd"
