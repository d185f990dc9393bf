"""What groups did and do, as clients see it: the history of one, and the traffic of all."""

from __future__ import annotations

import time

import pytest

from tests.support.controller import GROUPS, Json, Site
from tests.unit.api.test_moves import active_group
from twinsite.api.app import create_app
from twinsite.api.traffic_answers import HistoryOne, TrafficList
from twinsite.control.history import INTERVAL_SECONDS
from twinsite.latency import LatencyRecorder
from twinsite.messages import Activity, Counters


class Ticks:
    """Takes samples of times far enough away that none is taken by the clock meanwhile."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.at = INTERVAL_SECONDS * (round(time.time() / INTERVAL_SECONDS) + 1000)

    async def next(self) -> None:
        """Take the next one."""
        self.at += INTERVAL_SECONDS
        await self._site.controller.sampler.sample(self.at)


async def history(site: Site, group: Json, query: str = "") -> list[Json]:
    """Return a group's samples, held to their documented shape."""
    answer = await site.call("GET", f"{GROUPS}/{group['id']}/history{query}")
    assert answer.status_code == 200, answer.text
    HistoryOne.model_validate(answer.json())
    assert answer.json()["history"]["interval_seconds"] == INTERVAL_SECONDS
    samples: list[Json] = answer.json()["history"]["samples"]
    return samples


async def traffic(site: Site, query: str = "") -> list[Json]:
    """Return what groups do now, held to its documented shape."""
    answer = await site.call("GET", f"/os-vendor-traffic{query}")
    assert answer.status_code == 200, answer.text
    TrafficList.model_validate(answer.json())
    listed: list[Json] = answer.json()["traffic"]
    return listed


async def write(site: Site, group: Json, writes: int) -> None:
    """Let the primary report so many writes in all, each of 4 KiB and acknowledged in 4 ms."""
    latency = LatencyRecorder()
    latency.add(0.004, writes)
    site.az1.alter(
        group["id"],
        counters=Counters(writes=writes, write_bytes=4096 * writes),
        activity=Activity(write_latency=latency.latency()),
        dirty_bytes=writes,
    )
    await site.az1.post()


async def test_a_group_is_written_to(site: Site) -> None:
    group, ticks = await active_group(site), Ticks(site)
    await ticks.next()
    await ticks.next()
    await write(site, group, 1000)
    await ticks.next()
    await ticks.next()
    before, sample, after = (await history(site, group))[-3:]
    assert (before["writes_per_second"], before["ack_seconds"]) == (0.0, None)
    assert sample["writes_per_second"] > 0
    assert sample["write_bytes_per_second"] == pytest.approx(4096 * sample["writes_per_second"])
    assert sample["ack_seconds"] == pytest.approx(0.004)
    assert (after["writes_per_second"], after["dirty_bytes"], after["holding"]) == (0.0, 1000, False)
    assert await history(site, group, f"?seconds={INTERVAL_SECONDS}") == [after]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime(ticks.at))
    assert after["at"] == stamp


async def test_the_traffic_of_all_groups(site: Site) -> None:
    group, other = await active_group(site), await site.make_group()
    await write(site, group, 500)
    listed = {entry["id"]: entry for entry in await traffic(site)}
    assert listed.keys() == {group["id"], other["id"]}
    busy = listed[group["id"]]
    assert busy["now"]["writes_per_second"] > 0
    assert busy["now"]["dirty_bytes"] == 500
    assert (busy["mode"], busy["replication_status"], busy["priority_station"]) == ("in_sync", "active", "az1")
    assert listed[other["id"]]["now"]["writes_per_second"] == 0.0
    first, second = await traffic(site, "?limit=1"), await traffic(site, f"?marker={other['id']}")
    assert [entry["id"] for entry in first + second] == [other["id"], group["id"]]


async def test_what_another_controller_of_the_database_was_told(site: Site) -> None:
    group, ticks = await active_group(site), Ticks(site)
    app = create_app(site.settings)
    async with app.router.lifespan_context(app):
        other = app.state.controller.sampler
        await write(site, group, 100)
        await other.sample(ticks.at)
        await write(site, group, 300)
        await other.sample(ticks.at + INTERVAL_SECONDS)
        (sample,) = await other.samples(site.project_id, group["id"], INTERVAL_SECONDS)
        assert sample.writes_per_second > 0
        assert sample.dirty_bytes == 300
        site.az1.obeys_workers = False
        del site.az1.workers[group["id"]]
        await site.az1.post()
        await other.sample(ticks.at + 2 * INTERVAL_SECONDS)
        assert await other.samples(site.project_id, group["id"], INTERVAL_SECONDS) == []


async def test_a_primary_that_is_gone_does_nothing_that_is_known(site: Site) -> None:
    group = await active_group(site)
    site.az1.obeys_workers = False
    del site.az1.workers[group["id"]]
    await site.az1.post()
    (entry,) = await traffic(site)
    assert entry["now"] is None


@pytest.mark.parametrize("query", ["seconds=0", "seconds=3601", "seconds=x", "seconds=", "seconds=-1", "seconds=9e9"])
async def test_how_far_back_has_bounds(site: Site, query: str) -> None:
    group = await site.make_group()
    answer = await site.call("GET", f"{GROUPS}/{group['id']}/history?{query}")
    assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, "EVS.5400")


async def test_other_projects_see_nothing(site: Site) -> None:
    group = await site.make_group()
    assert (await site.call("GET", f"{GROUPS}/00000000-0000-4000-8000-000000000000/history")).status_code == 404
    site.project_id = "another"
    assert (await site.call("GET", f"{GROUPS}/{group['id']}/history")).status_code == 400
    assert (await site.call("GET", "/os-vendor-traffic")).status_code == 400
