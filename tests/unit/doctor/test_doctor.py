"""What the doctor says of what is well and of what is not: real files, real sockets, and judgements on given facts."""

from __future__ import annotations

import datetime
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import twinsite
from tests.support.running_api import Api, running_api
from twinsite.doctor.findings import Finding, Level
from twinsite.doctor.machine import check_machine, open_files, preloads
from twinsite.doctor.network import check_controller, check_peers, check_ports, judge_clock
from twinsite.doctor.releases import check_node, judge_release
from twinsite.doctor.secrets import check_secrets, judge_expiry
from twinsite.doctor.storage import Mount, check_storage, judge_flushes, judge_mount, judge_space, mount_of
from twinsite.node.settings import sites_of

GIB = 1024**3
NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short temporary directory: socket paths below it must fit."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A real controller with two nodes."""
    with running_api(tmp_path_factory.mktemp("doctor")) as made:
        yield made


def levels(found: Iterator[Finding] | list[Finding], check: str) -> list[Level]:
    """Return how bad the findings of one check are; whatever is wrong says how to mend it."""
    listed = list(found)
    assert all(finding.mend for finding in listed if finding.level is not Level.OK)
    return [finding.level for finding in listed if finding.check == check]


def test_this_machine_can_run_it() -> None:
    found = list(check_machine())
    assert not [finding for finding in found if finding.level is Level.ERROR]
    assert {finding.check for finding in found} == {"python", "kernel", "libraries", "open files", "flushes", "clock"}


@pytest.mark.parametrize(
    ("soft", "hard", "level"),
    [(256, 256, Level.ERROR), (1024, 4096, Level.WARNING), (65536, 65536, Level.OK), (-1, -1, Level.OK)],
)
def test_open_files(soft: int, hard: int, level: Level) -> None:
    assert open_files(soft, hard).level is level


def test_flushes_that_are_switched_off() -> None:
    assert preloads("/usr/lib/libeatmydata.so").level is Level.ERROR
    assert preloads("").level is Level.OK


def test_a_data_directory_is_looked_at_and_left_as_it_was(directory: Path) -> None:
    found = list(check_storage(directory / "data", ["az1"]))
    assert levels(found, "socket paths") == [Level.OK]
    assert levels(found, "data directory") == [Level.OK]
    assert {"file system", "free space", "holes", "reads", "flush time"} <= {finding.check for finding in found}
    assert list(directory.iterdir()) == []
    too_long = directory / ("x" * 100)
    assert levels(check_storage(too_long, ["az1", "az2"]), "socket paths") == [Level.ERROR] * 2


def test_holes_are_tried_for_real(directory: Path) -> None:
    found = [finding for finding in check_storage(directory, ["az1"]) if finding.check == "holes"]
    assert [finding.level for finding in found] == [Level.OK], found


@pytest.mark.parametrize(
    ("kind", "options", "level"),
    [
        ("ext4", "rw,relatime", Level.OK),
        ("xfs", "rw", Level.OK),
        ("ext4", "ro", Level.ERROR),
        ("ext4", "rw,nobarrier", Level.ERROR),
        ("tmpfs", "rw", Level.ERROR),
        ("nfs4", "rw", Level.WARNING),
        ("overlay", "rw", Level.WARNING),
    ],
)
def test_file_systems(kind: str, options: str, level: Level) -> None:
    assert judge_mount(Mount("/data", kind, frozenset(options.split(",")))).level is level


def test_a_mount_is_the_nearest_one() -> None:
    mounts = "a / ext4 rw 0 0\nb /tmp tmpfs rw 0 0\nc /tmp/with\\040blank xfs ro 0 0\nd /tmpfoo nfs rw 0 0\n"
    assert mount_of(Path("/tmp/x"), mounts) == Mount("/tmp", "tmpfs", frozenset({"rw"}))
    assert mount_of(Path("/tmp/with blank/x"), mounts) == Mount("/tmp/with blank", "xfs", frozenset({"ro"}))
    assert mount_of(Path("/var"), mounts) == Mount("/", "ext4", frozenset({"rw"}))


@pytest.mark.parametrize(
    ("free", "level"), [(50 * GIB, Level.OK), (5 * GIB, Level.WARNING), (GIB // 2, Level.ERROR), (0, Level.ERROR)]
)
def test_space(free: int, level: Level) -> None:
    assert judge_space(Path("/data"), 100 * GIB, free).level is level


@pytest.mark.parametrize(("seconds", "level"), [(1e-6, Level.WARNING), (1e-3, Level.OK), (0.2, Level.WARNING)])
def test_flush_times(seconds: float, level: Level) -> None:
    assert judge_flushes(seconds, Path("/data")).level is level


def test_secrets_that_others_may_read(directory: Path) -> None:
    secret = directory / "secrets" / "node-token"
    secret.parent.mkdir()
    secret.write_text("secret")
    secret.chmod(0o644)
    found = list(check_secrets(directory))
    assert levels(found, "secrets") == [Level.ERROR, Level.OK]
    assert str(secret) in str(found[0].mend)
    assert "secret" not in found[0].text.replace(str(secret), "")
    secret.chmod(0o600)
    assert levels(check_secrets(directory), "secrets") == [Level.OK]


@pytest.mark.parametrize(("days", "level"), [(-1, Level.ERROR), (3, Level.WARNING), (100, Level.OK)])
def test_certificates_end(days: int, level: Level) -> None:
    ends_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    assert judge_expiry("ca.pem", ends_at).level is level


def test_a_controller_that_answers(api: Api) -> None:
    found = list(check_controller(api.url, None))
    assert [finding for finding in found if finding.level is not Level.OK] == []
    assert levels(found, "nodes") == [Level.OK, Level.OK]
    assert levels(found, "arbiter") == [Level.OK]
    assert levels(found, "clock") == [Level.OK]
    assert levels(found, "releases") == [Level.OK]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, f'twinsite_node_build_info{{version="{twinsite.__version__}"}} 1.0\n', [Level.OK]),
        (200, '# HELP x\ntwinsite_controller_build_info{version="0.0.1"} 1.0\n', [Level.WARNING]),
        (200, "something else", []),
        (403, 'twinsite_node_build_info{version="0.0.1"} 1.0\n', []),
    ],
)
def test_releases(status: int, body: str, expected: list[Level]) -> None:
    assert levels(judge_release("the node", httpx.Response(status, text=body)), "releases") == expected


def test_a_node_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert levels(check_node(f"127.0.0.1:{port}"), "node") == [Level.ERROR]
    assert levels(check_node("no node"), "node") == [Level.ERROR]


def test_a_controller_answers_as_a_node_that_is_ready(api: Api) -> None:
    found = list(check_node(api.url.removeprefix("http://")))
    assert [finding.check for finding in found] == ["node", "releases"]
    assert all(finding.level is Level.OK for finding in found)


def test_sites_of_a_directory(directory: Path) -> None:
    assert sites_of(directory) == []
    for site in ("az2", "az1"):
        (directory / site / "pool").mkdir(parents=True)
    (directory / "controller").mkdir()
    assert sites_of(directory) == ["az1", "az2"]
    assert levels(check_storage(directory, sites_of(directory)), "socket paths") == [Level.OK, Level.OK]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://", "nonsense"])
def test_a_controller_that_does_not(url: str) -> None:
    assert levels(check_controller(url, None), "controller") == [Level.ERROR]


def test_clocks() -> None:
    assert levels(judge_clock("Tue, 24 Nov 2026 12:00:03 GMT", NOW), "clock") == [Level.OK]
    assert levels(judge_clock("Tue, 24 Nov 2026 11:00:00 GMT", NOW), "clock") == [Level.WARNING]
    assert levels(judge_clock(None, NOW), "clock") == []


def test_ports_and_peers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert levels(check_peers([f"127.0.0.1:{port}"]), "peer") == [Level.OK]
        assert levels(check_ports("127.0.0.1", [port]), "ports") == [Level.WARNING]
    assert levels(check_ports("127.0.0.1", [port]), "ports") == [Level.OK]
    assert levels(check_peers([f"127.0.0.1:{port}", "nonsense"]), "peer") == [Level.WARNING, Level.ERROR]
    assert levels(check_ports("192.0.2.1", [port]), "ports") == [Level.ERROR]
