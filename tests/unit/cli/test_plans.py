"""Plans before actions, and everything at one look."""

from __future__ import annotations

import io
import json
import types

import pytest
import yaml
from rich.console import Console

from tests.support.running_api import Api
from tests.unit.cli.conftest import Shell, ok
from twinsite.cli import asking
from twinsite.cli.planning import print_plan
from twinsite.cli.status import print_overview, worst
from twinsite.client.overviews import ActionPlan, Overview
from twinsite.messages import Mode

ACTIONS = ("failover", "reverse", "reprotect", "stop", "sync")


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A person at a terminal; `types` says what is typed next."""
    monkeypatch.setattr(asking, "sys", types.SimpleNamespace(stdin=types.SimpleNamespace(isatty=lambda: True)))
    return types.SimpleNamespace(types=lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(f"{text}\n")))


def test_a_plan_is_told_and_nothing_is_done(shell: Shell, name: str) -> None:
    group = shell.group(name)
    before = shell.json("group", "show", name)
    refused = shell.run("group", "plan", "failover", name)
    assert refused.status == 1
    for part in (
        "Refused: ",
        "is stale",
        "With --force",
        "1. az2 becomes the primary",
        "Lost will be all writes since",
    ):
        assert part in refused.output, refused.output
    assert "what is lost\n  lost will be" in refused.output.lower()
    forced = ok(shell.run("group", "plan", "failover", name, "--force"))
    assert "It would be done." in forced.output
    away = shell.run("group", "plan", "failover", name, "--force", "--to", "az1")
    assert ok(away).output.count("Nothing: az1 is the primary site already.") == 1
    nowhere = shell.run("group", "plan", "reverse", name, "--to", "az9")
    assert (nowhere.status, "not in 'az9'" in nowhere.output) == (1, True)
    data = json.loads(shell.run("group", "plan", "failover", group.id[:8], "-o", "json").output)
    assert (data["allowed"], data["needs_force"], data["group_id"]) == (False, True, group.id)
    for action in ACTIONS:
        result = shell.run("group", "plan", action, name, "-o", "yaml")
        assert result.status == (0 if yaml.safe_load(result.output)["allowed"] else 1)
    assert shell.json("group", "show", name) == before


def test_an_action_shows_its_plan_and_needs_the_name(shell: Shell, name: str, typing: types.SimpleNamespace) -> None:
    group = shell.group(name)
    ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))
    for wrong in ("", "y", group.id, name.upper()):
        typing.types(wrong)
        refused = shell.run("group", "stop", name)
        assert (refused.status, "nothing was done" in refused.errors) == (1, True), wrong
    assert shell.json("group", "show", name)["replication_status"] == "active"
    typing.types(name)
    done = ok(shell.run("group", "stop", name, "-o", "json"))
    assert "Pause the group" in done.errors
    assert json.loads(done.output)["replication_status"] == "active-stopped"
    # Nobody is asked for what changes nothing.
    typing.types("")
    assert "paused already" in ok(shell.run("group", "stop", name)).errors
    typing.types(name)
    refused = shell.run("group", "reverse", name)
    assert (refused.status, "Type" in refused.errors, "sync --wait" in refused.errors) == (1, False, True)


def test_a_move_that_was_confirmed_goes_where_its_plan_said(
    shell: Shell, name: str, api: Api, typing: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.group(name)
    ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))

    def somebody_is_faster(*_arguments: object, **_named: object) -> None:
        ok(shell.run("group", "reverse", name, "--yes", "--wait", "--timeout", "20"))

    monkeypatch.setattr("twinsite.cli.planning.confirm_by_name", somebody_is_faster)
    ok(shell.run("group", "reverse", name, "--wait", "--timeout", "20"))
    assert shell.json("group", "show", name)["priority_station"] == "az2", "the second one has turned it back"
    ok(shell.run("group", "reverse", name, "--yes", "--to", "az2", "--wait"))
    assert shell.json("group", "show", name)["priority_station"] == "az2"
    back = ok(shell.run("group", "reverse", name, "--yes", "--to", "az1", "--wait", "-o", "json"))
    assert json.loads(back.output)["priority_station"] == "az1"


def test_a_synchronization_that_protects_again_needs_the_name(
    shell: Shell, name: str, typing: types.SimpleNamespace
) -> None:
    shell.group(name)
    typing.types("")
    assert "Type" not in ok(shell.run("group", "sync", name, "--wait", "--timeout", "20")).errors
    ok(shell.run("group", "failover", name, "--yes", "--wait", "--timeout", "20"))
    typing.types("y")
    refused = shell.run("group", "sync", name)
    assert (refused.status, "nothing was done" in refused.errors) == (1, True)
    assert "What is lost" in refused.errors
    assert "What was written in az1" in refused.errors
    assert shell.json("group", "show", name)["status"] == "failovered"
    typing.types(name)
    ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))
    assert shell.json("group", "show", name)["replication_status"] == "active"
    ok(shell.run("group", "failover", name, "--yes", "--wait", "--timeout", "20"))
    ok(shell.run("group", "sync", name, "--yes"))


@pytest.mark.parametrize("action", ACTIONS)
def test_what_loses_something_always_asks_for_the_name(action: str) -> None:
    plan = ActionPlan.model_validate(
        dict.fromkeys(("group_name", "reason", "from_site", "to_site", "loss", "hosts"))
        | {"action": action, "group_id": "g-1", "allowed": True, "due": True, "needs_force": False}
        | {"steps": [], "first": [], "loss_text": "What was written in az1 is overwritten."}
    )
    assert plan.asks_for_name
    assert plan.model_copy(update={"loss_text": None}).asks_for_name is (action != "sync")
    assert not plan.model_copy(update={"due": False}).asks_for_name


def test_several_are_deleted_by_their_number(shell: Shell, name: str, typing: types.SimpleNamespace) -> None:
    ids = [shell.volume(f"{name}-{number}", "az1").id for number in range(2)]
    typing.types(f"{name}-0")
    refused = shell.run("volume", "delete", *ids)
    assert (refused.status, "their number, 2," in refused.errors) == (1, True)
    assert f"{name}-0, {name}-1" in refused.errors
    typing.types("2")
    assert json.loads(ok(shell.run("volume", "delete", *ids, "--wait", "-o", "json")).output) == ids
    assert shell.run("volume", "show", ids[0]).status == 1
    pair = shell.pair(name)
    assert shell.run("pair", "delete", name).status == 1  # An empty line is no name.
    typing.types(name)
    ok(shell.run("pair", "delete", name, "--wait"))
    assert pair.id not in [item["id"] for item in shell.json("pair", "list")]


def test_the_status_of_everything(shell: Shell, api: Api, name: str) -> None:
    shell.group(name)
    shown = ok(shell.run("status")).output
    assert f"WARNING {name}: The group was never synchronized" in shown
    assert f"$ twinsite group sync {name}" in shown
    assert "az1 -/- az2" in shown
    assert "fake-az1" in shown
    assert shell.run("status", "--check").status == 5
    ok(shell.run("group", "sync", name, "--wait", "--timeout", "20"))
    (row,) = [line for line in ok(shell.run("status")).output.splitlines() if line.startswith(name)]
    assert "az1 ==> az2" in row
    assert "active" in row
    api.az1.primary_mode = Mode.COPYING
    overview = shell.json("status")
    assert {site["name"] for site in overview["sites"]} == {"az1", "az2"}
    assert name in [group["name"] for group in overview["groups"]]
    api.az1.primary_mode = Mode.IN_SYNC


def overview(**group: object) -> Overview:
    """Return what an API may answer of one group."""
    shown = {
        "id": "g-1",
        "name": "[bold]shop[/bold]",
        "status": "available",
        "replication_status": "active",
        "fault_level": "0",
        "primary_site": "az1",
        "secondary_site": "az2",
        "mode": "in_sync",
        "in_sync_since": "2026-01-01T00:00:00.000000",
        "stale_since": None,
        "holding_since": None,
        "dirty_bytes": 0,
        "progress": {"bytes_total": 0, "bytes_done": 0, "percent": 100, "bytes_per_second": None, "seconds_left": None},
        "failover": {"possible": True, "reason": None, "loss": None},
        "failure_detail": None,
        "advice": [{"severity": "ok", "text": "In sync.", "command": None}],
    }
    site = {
        "name": "az1",
        "state": "silent",
        "node_name": None,
        "connected": False,
        "last_seen_at": "2026-01-01T00:00:00.000000",
        "pool_total_bytes": None,
        "pool_free_bytes": None,
        "groups_primary": 1,
    }
    return Overview.model_validate({"sites": [site], "groups": [{**shown, **group}], "truncated": False})


def printed(shown: Overview) -> str:
    """Return what a person sees of it."""
    console = Console(file=io.StringIO(), width=120, highlight=False)
    print_overview(console, shown)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.mark.parametrize(
    ("group", "parts"),
    [
        ({}, ["==>", "nothing", "2026-01-01 00:00:00", "All groups are in sync"]),
        ({"replication_status": "inactive", "dirty_bytes": 4096, "fault_level": "5"}, ["-/-", "4.0 KiB", "5"]),
        (
            {
                "replication_status": "copying",
                "mode": "copying",
                "progress": {
                    "bytes_total": 10,
                    "bytes_done": 4,
                    "percent": 40,
                    "bytes_per_second": 1.0,
                    "seconds_left": 6.0,
                },
            },
            ["-->", "copying 40 %, 0:06 left"],
        ),
        ({"holding_since": "2026-01-02T00:00:00.000000"}, ["hosts wait", "2026-01-02"]),
        (
            {"advice": [{"severity": "dreadful", "text": "Run.", "command": "twinsite x"}]},
            ["dreadful [bold]shop[/bold]: Run.", "$ twinsite x"],
        ),
    ],
)
def test_what_a_person_sees_of_a_group(group: dict[str, object], parts: list[str]) -> None:
    shown = printed(overview(**group))
    for part in ("silent, last seen", "[bold]shop[/bold]", *parts):
        assert part in " ".join(shown.split()), shown


def test_the_worst_is_what_counts() -> None:
    advice = [{"severity": severity, "text": "", "command": None} for severity in ("ok", "critical", "notice")]
    assert worst(overview(advice=advice).groups[0]) == "critical"
    assert worst(overview(advice=[]).groups[0]) == "ok"


def test_no_groups_yet() -> None:
    empty = overview().model_copy(update={"groups": []})
    assert "no groups" in printed(empty)


def test_a_plan_whose_texts_look_like_markup() -> None:
    plan = ActionPlan(
        action="fly",
        group_id="g-1",
        group_name="[red]x",
        allowed=True,
        due=True,
        reason=None,
        needs_force=False,
        from_site=None,
        to_site=None,
        steps=["[/nothing]"],
        loss=None,
        loss_text=None,
        first=[],
        hosts=None,
    )
    console = Console(file=io.StringIO(), width=120)
    print_plan(console, plan)
    assert isinstance(console.file, io.StringIO)
    assert "fly [red]x" in console.file.getvalue()
    assert "1. [/nothing]" in console.file.getvalue()
