"""A misspelt option of an action never does what the option was to prevent, or to allow."""

from __future__ import annotations

import pytest

from tests.support.controller import Site


@pytest.mark.parametrize(
    "value", [{"forse": True}, {"force": True, "priority_statoin": "az2"}, {"Force": True}, {"force ": False}]
)
async def test_a_misspelt_option_never_fails_over(site: Site, value: dict[str, object]) -> None:
    group = await site.make_group()
    await site.act(group["id"], "sync")
    await site.settle()
    before = await site.show_group(group["id"])
    for action in ("failover", "stop", "reverse"):
        answer = await site.act(group["id"], action, value)
        assert answer.status_code == 400, answer.text
        wrong = next(key for key in value if key not in ("force", "priority_station"))
        assert repr(wrong) in answer.text or "'force'" in answer.text
        assert "Nothing was done" in answer.text
    await site.settle()
    after = await site.show_group(group["id"])
    assert [after[key] for key in ("status", "replication_status", "priority_station", "updated_at")] == [
        before[key] for key in ("status", "replication_status", "priority_station", "updated_at")
    ]


async def test_null_and_no_options_are_the_same(site: Site) -> None:
    group = await site.make_group()
    values: list[dict[str, object] | None] = [None, {}]
    for value in values:
        assert (await site.act(group["id"], "sync", value)).status_code == 200
        async with site.nodes_running():
            assert (await site.act(group["id"], "stop", value)).status_code == 200
