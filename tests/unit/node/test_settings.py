"""What a node accepts as settings, and what it remembers."""

from __future__ import annotations

import dataclasses
import errno
import os
import pwd
from pathlib import Path

import pytest

from twinsite.errors import ConfigurationError
from twinsite.node.record import NodeRecord, VolumeRecord
from twinsite.node.settings import SOCKET_PATH_BYTES_MAX, NodeSettings, host_and_port, parse_ports, read_token

SETTINGS = NodeSettings("az1", "http://127.0.0.1:8776", Path("/data"), token="secret")


def test_good_settings_pass_and_keep_the_token_to_themselves() -> None:
    SETTINGS.check()
    assert "secret" not in repr(SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": ""}, "site"),
        ({"site": "../az1"}, "site"),
        ({"site": "a" * 65}, "site"),
        ({"controller_url": "127.0.0.1:8776"}, "http://"),
        ({"data_dir": Path("/" + "d" * 90)}, "too long"),
    ],
)
def test_bad_settings_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(SETTINGS, **change).check()  # type: ignore[arg-type]


def test_the_longest_directory_that_passes_makes_a_socket_path_of_the_greatest_length() -> None:
    fixed = len("//az1/run/n/00000000-0000-0000-0000-000000000000.sock")
    longest = dataclasses.replace(SETTINGS, data_dir=Path("/" + "d" * (SOCKET_PATH_BYTES_MAX - fixed)))
    longest.check()
    assert len(str(longest.nbd_socket_path("0" * 36))) == SOCKET_PATH_BYTES_MAX
    longer = dataclasses.replace(SETTINGS, data_dir=Path(f"{longest.data_dir}d"))
    with pytest.raises(ConfigurationError, match="1 bytes too long"):
        longer.check()


@pytest.mark.parametrize(("text", "ports"), [("1-1", range(1, 2)), ("10809-10908", range(10809, 10909))])
def test_port_ranges_are_read(text: str, ports: range) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "2-1", "0-5", "1-65536", "a-b", "1-2-3", "\u0661-\u0662"])
def test_bad_port_ranges_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ports"):
        parse_ports(text)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5"), ("storage.example", "storage.example:5")]
)
def test_addresses_are_written_with_brackets_where_needed(host: str, expected: str) -> None:
    assert host_and_port(host, 5) == expected


def test_tokens_are_read_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigurationError, match="token file"):
        read_token(path)
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="empty"):
        read_token(path)
    path.write_text("abc\n")
    assert read_token(path) == "abc"


def test_a_token_of_another_user_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    user = pwd.getpwuid(os.geteuid()).pw_name

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigurationError, match=f"for the user {user}, as whom the node runs.*chown {user} "):
        read_token(path)


def test_a_record_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    record = NodeRecord.load(path)
    assert (record.installation_id, record.volumes) == (None, {})
    record.set_installation("one")
    record.set_volume("a", VolumeRecord(1024, 10809))
    record.set_volume("b", VolumeRecord(2048))
    record.set_volume("a", VolumeRecord(4096, 10809))
    record.set_volume("c", VolumeRecord(1))
    record.set_volume("c", None)
    record.set_volume("unknown", None)
    again = NodeRecord.load(path)
    assert again == record
    assert again.volumes == {"a": VolumeRecord(4096, 10809), "b": VolumeRecord(2048)}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"installation_id": null, "volumes": {"a": {"size": 1}}}'])
def test_a_damaged_record_is_not_overlooked(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        NodeRecord.load(path)
