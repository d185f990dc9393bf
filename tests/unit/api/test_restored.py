"""What the API says of a group whose database was restored from a backup, until both sites were heard."""

from __future__ import annotations

from tests.support.controller import Site
from tests.unit.api.test_moves import active_group, show, spec
from twinsite.control.lifecycle.restored import FILE_NAME, Memory
from twinsite.messages import Knowledge


async def test_nothing_is_granted_before_both_sites_have_spoken(site: Site) -> None:
    group = await active_group(site)
    memory = Memory(site.settings.controller_dir, site.controller.context.database)
    assert await memory.distrust()
    assert not await memory.distrust(), "once is enough"
    for node in (site.az1, site.az2):
        answer = await site.act(group["id"], "failover")
        assert (answer.status_code, "restored from a backup" in answer.text, node.site in answer.text) == (
            400,
            True,
            True,
        )
        failover = (await show(site, group["id"]))["twinsite"]["failover"]
        assert (failover["possible"], node.site in failover["reason"]) == (False, True)
        refused = await site.az1.ask_arbiter(spec(site.az1), "suspend_secondary", 1)
        assert (refused["granted"], refused["reason"]) == (False, "unheard")
        node.alter(group["id"], knowledge=Knowledge(1, node is site.az1, row_version=1))
        await node.post()
    assert (await show(site, group["id"]))["twinsite"]["secondary"] == "in_sync"
    assert (await site.act(group["id"], "failover")).status_code == 200


async def test_a_newer_grant_that_the_primary_remembers_counts(site: Site) -> None:
    group = await active_group(site)
    assert await Memory(site.settings.controller_dir, site.controller.context.database).distrust()
    knowledge = Knowledge(1, is_primary=True, row_version=9, spec_version=70, loss_acceptances=3)
    site.az1.alter(group["id"], knowledge=knowledge)
    site.az2.alter(group["id"], knowledge=Knowledge(1, is_primary=False, spec_version=12))
    await site.az1.post()
    await site.az2.post()
    shown = await show(site, group["id"])
    assert (shown["twinsite"]["secondary"], shown["twinsite"]["term"]) == ("stale", 1)
    assert (spec(site.az2).version > 70, spec(site.az2).loss_acceptances) == (True, 3)
    answer = await site.act(group["id"], "failover")
    assert (answer.status_code, "is stale" in answer.text) == (400, True)
    events = (await site.call("GET", f"/os-vendor-replication-consistency-groups/{group['id']}/events")).json()
    assert "restored" in [event["action"] for event in events["events"]]


async def test_force_waits_for_nobody(site: Site) -> None:
    group = await active_group(site)
    assert await Memory(site.settings.controller_dir, site.controller.context.database).distrust()
    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"]) == ("failovered", "az2")
    assert shown["twinsite"]["term"] > 1_000_000


async def test_the_count_of_changes_tells_a_backup(site: Site) -> None:
    await active_group(site)
    database = site.controller.context.database
    path = site.settings.controller_dir / FILE_NAME
    kept = int(path.read_text())
    assert kept > 0
    for content, is_backup in [
        (str(kept), False),
        (str(kept - 1), False),
        (str(kept + 1), True),
        ("", True),
        (None, True),
    ]:
        path.unlink() if content is None else path.write_text(content)
        memory = Memory(site.settings.controller_dir, database)
        await memory.open()
        assert memory._has_distrusted is is_backup, content
