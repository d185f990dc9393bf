"""The units of deploy/systemd: each service works as its unit starts it, without rights and with a file system to read.

There is no systemd here; `tests.support.units` does what it would do, and says what of that it does not.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.api_group import Group
from tests.support.installation import Installation, wait_for
from tests.support.units import REPOSITORY, SECONDS_MAX, USER_ID, Machine, Service, Unit
from twinsite.embedded.up import choose_port
from twinsite.nbd_client import NbdClient

READY, ALIVE = b"READY=1", b"WATCHDOG=1"
CONTROLLER = "twinsite-controller.service"
NODE = "twinsite-node@.service"
DATA = b"d" * 4096


@pytest.fixture(name="machine")
def fixture_machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


@pytest.fixture(name="stack")
def fixture_stack(machine: Machine) -> Iterator[ExitStack]:
    """What is started on the machine, and ends before it."""
    with ExitStack() as made:
        yield made


def install(source: str, machine: Machine, name: str) -> Path:
    """Put a file of deploy to the settings, as the operating guide does."""
    path = machine.configuration / name
    shutil.copy(REPOSITORY / "deploy" / source, path)
    shutil.chown(path, USER_ID, USER_ID)
    path.chmod(0o600)
    return path


def install_token(machine: Machine) -> Path:
    """Carry the controller's token to the settings of the nodes, where the services' user can read it."""
    path = machine.configuration / "node-token"
    shutil.copy(machine.state / "secrets/node-token", path)
    shutil.chown(path, USER_ID, USER_ID)
    path.chmod(0o600)
    return path


def started(stack: ExitStack, machine: Machine, unit: Unit) -> Service:
    """Start a service and wait until it is ready, and has given a sign of life."""
    service = stack.enter_context(machine.run(unit))
    service.wait_for(READY)
    service.wait_for(ALIVE)
    return service


def start_controller(stack: ExitStack, machine: Machine) -> tuple[Service, str]:
    """Start the controller on a port of its own; return where it answers."""
    install("twinsite.toml", machine, "twinsite.toml")
    port = choose_port("127.0.0.1", 0)
    (machine.configuration / "controller.env").write_text(f"OPTIONS=--host=127.0.0.1 --port={port}\n")
    return started(stack, machine, Unit(CONTROLLER)), f"http://127.0.0.1:{port}"


def configure_node(machine: Machine, site: str, url: str) -> None:
    """Write a node's options: those of deploy/node.env, with addresses of this machine."""
    path = install("node.env", machine, f"node-{site}.env")
    text = path.read_text()
    for option, value in {
        "controller": url,
        "nbd-host": "127.0.0.1",
        "stream-host": "127.0.0.1",
        "http-listen": "127.0.0.1:0",
    }.items():
        text, count = re.subn(rf'--{option}=[^ "]+', f"--{option}={value}", text)
        assert count == 1
    path.write_text(text.replace(" --nbd-ports=10809-10999", ""))


def test_a_group_is_protected_by_the_services_as_their_units_start_them(machine: Machine, stack: ExitStack) -> None:
    controller, url = start_controller(stack, machine)
    install_token(machine)
    nodes = {}
    for site in ("az1", "az2"):
        configure_node(machine, site, url)
        nodes[site] = started(stack, machine, Unit(NODE, site))
    installation = Installation(directory=machine.state)
    installation.log_in(url)
    group = Group(installation, 1)
    group.synchronize()
    (uri,) = group.connect("az1")
    place = uri.replace("/var/lib/twinsite", str(machine.state))
    with NbdClient(place) as client:
        client.write(0, DATA)
        client.flush()
        # Hosts are served while the node is stopped, and the next one takes the worker over.
        assert nodes["az1"].stop() == 0
        client.write(4096, DATA)
        nodes["az1"] = started(stack, machine, Unit(NODE, "az1"))
        assert client.read(4096, 4096) == DATA
    assert "found worker" in nodes["az1"].text()
    socket_path = place.partition("socket=")[2]
    assert Path(socket_path).stat().st_mode & 0o777 == 0o770, "for hosts whose user is in the group"
    assert controller.stop() == 0
    controller = started(stack, machine, Unit(CONTROLLER))
    wait_for(lambda: group.show()["replication_status"] == "active", "the group to be as it was")
    for part in (controller, *nodes.values()):
        assert not re.search(r"[Pp]ermission denied|Read-only file system|Traceback", part.text()), part.text()
    for path in machine.state.glob("az?/logs/*.log"):
        assert "Traceback" not in path.read_text(), path


def test_a_token_that_the_nodes_user_cannot_read_is_named(machine: Machine, stack: ExitStack) -> None:
    configure_node(machine, "az1", "http://127.0.0.1:1")
    token = machine.configuration / "node-token"
    token.write_text("a token\n")
    token.chmod(0o600)
    service = stack.enter_context(machine.run(Unit(NODE, "az1")))
    assert service.process.wait(SECONDS_MAX) == 2
    assert "token file /etc/twinsite/node-token: Permission denied for the user twinsite" in service.text()
    assert "chown twinsite /etc/twinsite/node-token" in service.text()
