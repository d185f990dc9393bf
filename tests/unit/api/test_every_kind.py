"""Every kind of events that can be subscribed to comes about: a group is led through all that can happen to it."""

from __future__ import annotations

import dataclasses

from tests.support.controller import GROUPS, Json, Site
from tests.unit.api.test_events import gone_group
from tests.unit.api.test_extend import EXTEND, sizes
from tests.unit.api.test_moves import DISK_FAILS, active_group, show, silenced, stale_group, start_reverse_late
from twinsite.control.lifecycle.event_kinds import KINDS, TEST
from twinsite.messages import Knowledge, Mode


async def kinds(site: Site) -> set[str]:
    """Return the kinds of all of the project's events, those of deleted groups too."""
    await site.controller.feed.publish()
    listed = (await site.call("GET", "/os-vendor-events")).json()["events"]
    return {kind for event in listed for kind in event["kinds"]}


async def extended(site: Site, group: Json) -> None:
    """Extend a group's disks, rename it, and ask it for what there is not."""
    async with site.nodes_running():
        assert (await site.act(group["id"], EXTEND, sizes(group, 2))).status_code == 200
    body = {"replication_consistency_group": {"name": "renamed"}}
    assert (await site.call("PUT", f"{GROUPS}/{group['id']}", body)).status_code == 202
    assert (await site.act(group["id"], "os-praise-replication-consistency-group")).status_code == 400


async def troubled(site: Site, group: Json) -> None:
    """Let a group's site fall silent and come back, its disk fail and recover, and hosts wait and go on."""
    site.controller.context.presence.started_at = float("-inf")
    async with silenced(site, "az1"):
        await site.controller.reconciler.observe_groups()
    await site.controller.reconciler.observe_groups()
    status = site.az1.workers[group["id"]].status
    assert status is not None
    failing = [dataclasses.replace(member, failure=DISK_FAILS) for member in status.members]
    for values in (
        {"members": failing},
        {"members": status.members},
        {"mode": Mode.HOLDING, "holding_since": 1.0},
        {"mode": Mode.IN_SYNC, "holding_since": None},
    ):
        site.az1.alter(group["id"], **values)
        await site.az1.post()


async def moved(site: Site, group: Json) -> None:
    """Fail a group over, protect it again, bring it back, and pause it."""
    for action in ("failover", "reprotect", "reverse", "stop"):
        async with site.nodes_running():
            assert (await site.act(group["id"], action)).status_code == 200, action
        await site.settle()
    assert (await show(site, group["id"]))["priority_station"] == "az1"


async def forgotten(site: Site) -> None:
    """Let a worker know of a grant that the database has forgotten."""
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    site.az1.alter(group["id"], knowledge=Knowledge(1, is_primary=True, row_version=9, spec_version=70))
    site.az2.alter(group["id"], knowledge=Knowledge(1, is_primary=False, spec_version=12))
    await site.az1.post()
    await site.az2.post()


async def test_every_kind_comes_about(site: Site) -> None:
    group = await active_group(site)
    await extended(site, group)
    await troubled(site, group)
    await moved(site, group)
    await gone_group(site)
    await forgotten(site)
    site.settings.reverse_wait_seconds = 1e-6
    await start_reverse_late(site)  # Which fails, and leaves the group in error.
    site.az1.hands_over = True
    await stale_group(site)  # Last, because production has no way to the DR side from here on.
    assert await kinds(site) == KINDS - {TEST}
