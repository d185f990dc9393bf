"""The commands against a real controller whose nodes oblige at once."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.controller import WAIT_SECONDS_MAX
from tests.support.running_api import Api, write_clouds
from tests.unit.cli.conftest import Run, Shell, ok
from twinsite.cli import asking
from twinsite.client import groups as group_plans
from twinsite.client import waiting
from twinsite.client.models import History
from twinsite.client.session import Session
from twinsite.client.steps import Plan
from twinsite.messages import Failure, Mode


def test_a_volume_from_its_creation_to_its_end(shell: Shell, name: str) -> None:
    volume = shell.json("volume", "create", name, "--size", "2", "--az", "az1", "--description", "a b", "--wait")
    assert (volume["status"], volume["size"], volume["availability_zone"]) == ("available", 2, "az1")
    shown = ok(shell.run("volume", "show", name)).output
    assert volume["id"] in shown
    assert "2 GiB" in shown
    assert "a b" in shown
    assert volume["id"] in [item["id"] for item in shell.json("volume", "list")]
    (row,) = [line for line in ok(shell.run("volume", "list")).output.splitlines() if name in line]
    assert row.split()[:4] == [volume["id"], name, "available", "2"]
    ok(shell.run("volume", "delete", name, "--wait", "--yes"))
    gone = shell.run("volume", "show", volume["id"])
    assert gone.status == 1
    assert f"no volume has the id {volume['id']}" in gone.errors


def test_connecting_prints_every_address_and_the_same_each_time(shell: Shell, name: str) -> None:
    volume = shell.volume(name, "az1")
    first = ok(shell.run("volume", "connect", name, "--host", "a")).output
    assert first.splitlines()[0] == f"nbd+unix:///{volume.id}?socket=/run/{volume.id}.sock"
    assert len(first.splitlines()) == 2
    assert ok(shell.run("volume", "connect", name, "--host", "a")).output == first
    assert shell.json("volume", "connect", name, "--host", "a")["driver_volume_type"] == "nbd"
    assert shell.json("volume", "show", name)["status"] == "in-use"
    refused = shell.run("volume", "disconnect", name, "--host", "a")
    assert (refused.status, "cut off" in refused.errors, "--yes" in refused.errors) == (2, True, True)
    assert shell.json("volume", "show", name)["status"] == "in-use"
    assert shell.json("volume", "disconnect", name, "--host", "a", "--yes")["status"] == "available"
    # Nobody is cut off by what is over already.
    ok(shell.run("volume", "disconnect", name, "--host", "a"))


def test_a_pair_and_a_group_from_their_creation_to_their_end(shell: Shell, name: str) -> None:
    shell.volume(f"{name}-1", "az1")
    shell.volume(f"{name}-2", "az2")
    pair = shell.json("pair", "create", name, "--production", f"{name}-1", "--dr", f"{name}-2", "--wait")
    assert (pair["status"], pair["priority_station"]) == ("available", "az1")
    group = shell.json("group", "create", name, "--pair", name, "--wait")
    assert (group["status"], group["replication_ids"]) == ("available", [pair["id"]])
    assert group["id"] in ok(shell.run("pair", "show", name)).output
    assert group["id"] in ok(shell.run("group", "list")).output
    assert pair["id"] in ok(shell.run("group", "show", name)).output
    assert pair["id"] in ok(shell.run("pair", "list")).output

    refused = shell.run("pair", "delete", name, "--yes")
    assert refused.status == 1
    assert "HTTP 400" in refused.errors
    ok(shell.run("group", "update", name, "--remove-pair", name, "--name", f"{name}-2", "--wait"))
    ok(shell.run("group", "delete", f"{name}-2", "--wait", "--yes"))
    ok(shell.run("pair", "delete", name, "--wait", "--yes"))
    assert shell.run("pair", "show", pair["id"]).status == 1
    assert shell.run("group", "show", group["id"]).status == 1


def test_a_group_is_synchronized_and_stopped(shell: Shell, name: str) -> None:
    shell.group(name)
    result = ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))
    assert "in sync" in result.output
    assert shell.json("group", "status", name)["replication_status"] == "active"
    status = ok(shell.run("group", "status", name)).output
    assert "active" in status
    assert "in_sync" in status
    ok(shell.run("group", "stop", name, "--yes"))
    assert shell.json("group", "show", name)["replication_status"] == "active-stopped"


def test_a_group_goes_to_the_other_site_and_back(shell: Shell, api: Api, name: str) -> None:
    group = shell.group(name)
    refused = shell.run("group", "failover", name, "--yes")
    assert (refused.status, "is stale" in refused.errors) == (1, True)
    status = ok(shell.run("group", "status", name)).output
    assert "refused: the DR side in az2 is stale" in status
    assert "refused: the DR side in az2 is stale" in ok(shell.run("group", "show", name)).output
    ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))
    status = ok(shell.run("group", "status", name)).output
    assert "1, az1 is primary" in status
    assert "possible, loses nothing" in status
    assert "Ok  " in status

    asked = shell.run("group", "failover", name)
    assert (asked.status, "--yes" in asked.errors) == (2, True)
    assert shell.json("group", "show", name)["priority_station"] == "az1"
    done = ok(shell.run("group", "failover", name, "--yes", "--wait", "--timeout", "20"))
    assert f"twinsite group reprotect {name}" in done.output
    assert shell.json("group", "show", name)["status"] == "failovered"
    protected = ok(shell.run("group", "reprotect", name, "--yes", "--wait", "--timeout", "20"))
    assert "in sync" in protected.output
    moved = ok(shell.run("group", "reverse", name, "--yes", "--wait", "--timeout", "20"))
    assert "az1 is primary (term 3)" in moved.output
    shown = shell.json("group", "show", name)
    assert (shown["id"], shown["status"], shown["replication_status"]) == (group.id, "available", "active")


def test_a_forced_failover_states_the_loss_before_it_asks(
    shell: Shell, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.group(name)
    asked = shell.run("group", "failover", name, "--force")
    assert asked.status == 2
    assert "Lost will be all writes since" in asked.errors
    monkeypatch.setattr(asking, "sys", types.SimpleNamespace(stdin=types.SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    refused = shell.run("group", "failover", name, "--force")
    assert (refused.status, "nothing was done" in refused.errors) == (1, True)
    assert shell.json("group", "show", name)["status"] == "available"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{name}\n"))
    ok(shell.run("group", "failover", name, "--force", "--wait", "--timeout", "20"))
    assert shell.json("group", "show", name)["priority_station"] == "az2"


def test_a_wait_that_is_too_short_says_so(shell: Shell, api: Api, name: str) -> None:
    group = shell.group(name)
    api.az1.primary_mode = Mode.COPYING
    try:
        result = shell.run("group", "sync", name, "--wait", "--timeout", "0")
    finally:
        api.az1.primary_mode = Mode.IN_SYNC
    assert result.status == 4
    assert f"group {group.id} is still" in result.errors
    assert "--timeout" in result.errors


def test_the_beginning_of_an_id_is_enough(shell: Shell, name: str) -> None:
    volume = shell.volume(name, "az1")
    assert shell.json("volume", "show", volume.id[:13])["id"] == volume.id
    assert shell.json("volume", "show", volume.id.upper())["id"] == volume.id
    too_short = shell.run("volume", "show", volume.id[:3])
    assert too_short.status == 1
    assert "no volume has the name or id" in too_short.errors


def test_a_name_that_means_two_volumes_is_refused_and_both_are_named(shell: Shell, name: str) -> None:
    ids = [shell.volume(name, "az1").id for _ in range(2)]
    result = shell.run("volume", "delete", name, "--yes")
    assert result.status == 1
    assert f"{name!r} means 2 volumes" in result.errors
    assert all(volume_id in result.errors for volume_id in ids)
    assert all(shell.json("volume", "show", volume_id)["status"] == "available" for volume_id in ids)


def test_deleting_several_deletes_none_when_one_is_unknown(shell: Shell, name: str) -> None:
    shell.volume(name, "az1")
    assert shell.run("volume", "delete", name, f"{name}-unknown", "--yes").status == 1
    assert shell.json("volume", "show", name)["status"] == "available"


def test_a_refusal_is_the_message_of_the_api(shell: Shell, name: str) -> None:
    result = shell.run("volume", "create", name, "--size", "1", "--az", "az9")
    assert result.status == 1
    assert result.errors.startswith("twinsite: ")
    assert "az9" in result.errors
    assert "Traceback" not in result.errors
    assert "req-" in result.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["volume", "create", "x"],
        ["volume", "create", "x", "--size", "0", "--az", "az1"],
        ["volume", "list", "-o", "xml"],
        ["group", "create", "x"],
        ["volume", "explode"],
        ["explode"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).status == 2


def test_no_cloud_is_explained(run: Run) -> None:
    result = run("volume", "list")
    assert result.status == 2
    assert "--data DIR" in result.errors
    assert "OS_AUTH_URL" in result.errors


def test_an_api_that_does_not_answer_is_told_apart(run: Run, tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", "http://127.0.0.1:1", "secret")
    result = run("volume", "list", "--data", str(tmp_path))
    assert result.status == 3
    assert "http://127.0.0.1:1" in result.errors
    assert "secret" not in result.errors


def test_a_wrong_password_is_explained_without_showing_it(run: Run, api: Api, tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", api.url, "wrong-secret")
    result = run("volume", "list", "--data", str(tmp_path))
    assert result.status == 1
    assert "login of user 'admin' was refused" in result.errors
    assert "wrong-secret" not in result.errors


def test_the_environment_names_the_cloud(run: Run, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = yaml.safe_load((api.data_dir / "clouds.yaml").read_text())["clouds"]["twinsite"]["auth"]
    monkeypatch.setenv("OS_AUTH_URL", auth["auth_url"])
    monkeypatch.setenv("OS_USERNAME", "admin")
    monkeypatch.setenv("OS_PASSWORD", auth["password"])
    monkeypatch.setenv("OS_PROJECT_NAME", "admin")
    assert run("volume", "list").status == 0
    monkeypatch.delenv("OS_AUTH_URL")
    monkeypatch.setenv("TWINSITE_DATA", str(api.data_dir))
    assert run("volume", "list").status == 0


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["group", "sync", "--help"]])
def test_help_and_version(run: Run, command: list[str]) -> None:
    result = run(*command)
    assert result.status == 0
    assert "wait" in result.output.lower() or "twinsite" in result.output.lower()


def test_the_long_running_commands_are_there(run: Run) -> None:
    shown = run("--help").output
    assert all(command in shown for command in ("up", "node", "controller", "demo", "volume", "pair", "group"))


def test_a_token_for_other_programs_works(shell: Shell) -> None:
    session = shell.json("token")
    answer = httpx.get(f"{session['endpoint']}/volumes", headers={"X-Auth-Token": session["token"]}, trust_env=False)
    assert answer.status_code == 200
    line = ok(shell.run("token")).output
    assert re.fullmatch(rf"export ENDPOINT={session['endpoint']} TOKEN=\S+\n", line)


def test_help_loads_neither_the_client_nor_the_services() -> None:
    heavy = ("httpx", "fastapi", "sqlalchemy", "twinsite.embedded.up", "twinsite.node.service", "twinsite.demo.story")
    script = f"import sys, twinsite.cli.main; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"


def test_the_disks_of_a_pair_are_extended(shell: Shell, name: str) -> None:
    group = shell.group(name)
    ok(shell.run("group", "extend", name, f"{name}=3", "--wait"))
    volumes = [shell.json("volume", "show", disk) for disk in (name, f"{name}-dr")]
    assert [volume["size"] for volume in volumes] == [3, 3]
    ok(shell.run("group", "extend", group.id, f"{group.replication_ids[0]}=3"))
    smaller = shell.run("group", "extend", name, f"{name}=2", "--wait")
    assert (smaller.status, "EVS.1015" in smaller.errors) == (1, True)


@pytest.mark.parametrize("text", ["db", "db=", "=3", "db=x", "db=-1", "db=1.5"])
def test_a_new_size_that_cannot_be_read(shell: Shell, text: str) -> None:
    result = shell.run("group", "extend", "nobody", text)
    assert (result.status, "write PAIR=GIB" in result.errors) == (2, True)


def test_an_extension_is_asked_for_again_until_the_pool_has_room(
    shell: Shell, api: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = shell.group(name)
    volume_id = shell.json("volume", "show", f"{name}-dr")["id"]
    api.az2.room_failures[volume_id] = Failure("37100177", "the pool has no room")
    refused = shell.run("group", "extend", name, f"{name}=2")
    assert (refused.status, "the pool has no room" in refused.errors) == (1, True)
    tries = 0
    real = group_plans.extend_group

    def extend_group(session: Session, group_id: str, sizes_gib: Mapping[str, int]) -> Plan[None]:
        nonlocal tries
        tries += 1
        if tries == 3:
            api.az2.room_failures.clear()
        return real(session, group_id, sizes_gib)

    monkeypatch.setattr(waiting, "extend_group", extend_group)
    ok(shell.run("group", "extend", group.id, f"{name}=2", "--wait"))
    assert (tries, shell.json("volume", "show", name)["size"]) == (3, 2)


def test_the_events_of_a_group(shell: Shell, name: str) -> None:
    group = shell.group(name)
    ok(shell.run("group", "sync", name, "--wait"))
    events = shell.json("group", "events", name)
    assert (events[-1]["action"], events[-1]["actor"], events[0]["after"]["replication_status"]) == (
        "create",
        "admin",
        "active",
    )
    assert "sync" in {event["action"] for event in events}
    shown = ok(shell.run("group", "events", group.id)).output
    (row,) = [line for line in shown.splitlines() if "sync by admin: accepted" in line]
    assert re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}  sync", row)
    assert ", seen by node of az1" in shown
    assert "wish paused -> running" in shown
    assert "a failover would have lost nothing (term 1" in shown
    assert len(shell.json("group", "events", name, "--limit", "1")) == 1
    ok(shell.run("group", "stop", name, "--yes"))
    ok(shell.run("group", "update", name, "--remove-pair", name, "--wait"))
    ok(shell.run("group", "delete", name, "--wait", "--yes"))
    assert shell.json("group", "events", group.id, "--limit", "1")[0]["action"] == "delete", "its id finds it still"
    missing = shell.run("group", "events", name)
    assert (missing.status, "no group has the name or id" in missing.errors) == (1, True)


def test_sites_are_listed_and_one_that_is_there_is_not_given_up(shell: Shell) -> None:
    assert {site["name"]: site["connected"] for site in shell.json("site", "list")} == {"az1": True, "az2": True}
    shown = ok(shell.run("site", "list")).output
    assert "connected" in shown
    assert "fake-az1" in shown
    assert "give --yes" in shell.run("site", "forget", "az2").errors
    refused = shell.run("site", "forget", "az2", "--yes")
    assert (refused.status, "is connected" in refused.errors) == (1, True)
    ok(shell.run("site", "restore", "az2"))
    assert (restored := shell.json("site", "restore", "az2"))["name"] == "az2"
    assert restored["lost_at"] is None


def test_the_events_of_all_groups_and_who_asked_for_what(shell: Shell, name: str) -> None:
    group = shell.group(name)
    ok(shell.run("group", "stop", name, "--yes"))
    refused = shell.run("group", "failover", name, "--yes")
    assert refused.status == 1
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    actions: set[str] = set()
    while not actions >= {"create", "stop"}:  # An event is in the list of all groups a moment after it is in its own.
        assert time.monotonic() < deadline, actions
        of_all = shell.json("events", "-n", "100")
        actions = {event["action"] for event in of_all if event["group_name"] == name}
    assert len(shell.json("events", "--limit", "1")) == 1
    assert f"{name}: stop by admin: " in ok(shell.run("events", "-n", "100")).output

    (record,) = shell.json("audit", "--object", group.id, "--result", "refused")
    assert record["operation"] == "replication_consistency_groups:failover"
    assert "is stale" in record["message"]
    assert shell.json("audit", "--request", record["request_id"]) == [record]
    shown = ok(shell.run("audit", "--user", record["user_id"], "--all-projects")).output
    assert record["request_id"] in shown
    assert shell.json("audit", "--user", "nobody") == []
    assert shell.run("audit", "--result", "lost").status == 2


def test_the_history_of_a_group(shell: Shell, name: str) -> None:
    shell.group(name)
    told = shell.json("group", "history", name)
    assert told["interval_seconds"] > 0
    assert "Writes/s" in ok(shell.run("group", "history", name, "--seconds", "60")).output
    assert shell.run("group", "history", name, "--seconds", "3601").status == 2


def test_what_a_person_sees_of_a_sample(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = dict.fromkeys(
        ("read_bytes_per_second", "write_bytes_per_second", "sent_bytes_per_second", "reads_per_second"), 2048.0
    )
    sample = {"at": "2026-01-01T12:00:10.000000", "writes_per_second": 1234.0, "ack_seconds": 0.0005, **rates}
    told = {
        "interval_seconds": 10,
        "samples": [{**sample, "dirty_bytes": 0, "resync_bytes_left": 65536, "holding": True}],
    }
    client = types.SimpleNamespace(
        find_group=lambda _text: types.SimpleNamespace(id="g-1"),
        group_history=lambda _group_id, _seconds: History.model_validate(told),
    )
    monkeypatch.setattr("twinsite.cli.history.open_api", lambda _data, _cloud: contextlib.nullcontext(client))
    row = ok(run("group", "history", "g-1")).output.splitlines()[1]
    assert row.split() == ["12:00:10", "1,234", *["2.0", "KiB/s"] * 3, "0.50", "ms", "0", "B", "64.0", "KiB", "yes"]
