"""What the API says of a group whose database was restored from a backup, until both sites were heard."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.controller import GROUPS, Site, group_fields
from tests.support.fake_node import FakeNode, running
from tests.support.stream import WAIT_SECONDS
from tests.unit.api.test_moves import active_group, show, silenced, spec
from twinsite.control.clock import utc_now
from twinsite.control.database import ArbiterChanges, Database
from twinsite.control.lifecycle import restored
from twinsite.control.lifecycle.restored import FILE_NAME, Memory
from twinsite.control.models import Installation
from twinsite.control.repository import arbiter_rows
from twinsite.core.arbiter import FORCED_VERSIONS, FORGOTTEN_TERMS_MAX, FORGOTTEN_VERSIONS_MAX, Reached
from twinsite.messages import Knowledge, Mode, Replication


async def say(node: FakeNode, group: dict[str, Any], knowledge: Knowledge) -> None:
    """Hear what a group's worker is asked, and report what it knows."""
    await node.post()
    node.alter(group["id"], knowledge=replace(knowledge, answers=node.spec(group["id"]).question))
    await node.post()


async def test_nothing_is_granted_before_both_sites_have_spoken(site: Site) -> None:
    group = await active_group(site)
    memory = site.controller.reconciler._memory
    assert await memory.distrust()
    assert not await memory.distrust(), "once is enough"
    for node in (site.az1, site.az2):
        answer = await site.act(group["id"], "failover")
        assert (answer.status_code, "restored from a backup" in answer.text, node.site in answer.text) == (
            400,
            True,
            True,
        )
        assert ("Start the node of" in answer.text, "Synchronize it" in answer.text) == (True, False)
        failover = (await show(site, group["id"]))["twinsite"]["failover"]
        assert (failover["possible"], node.site in failover["reason"]) == (False, True)
        refused = await site.az1.ask_arbiter(spec(site.az1), "suspend_secondary", 1)
        assert (refused["granted"], refused["reason"]) == (False, "unheard")
        await say(node, group, Knowledge(1, node is site.az1, row_version=1, row_in_sync=node is site.az1))
    assert (await show(site, group["id"]))["twinsite"]["secondary"] == "in_sync"
    assert (await site.act(group["id"], "failover")).status_code == 200


async def test_a_newer_grant_that_the_primary_remembers_counts(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    knowledge = Knowledge(1, is_primary=True, row_version=9, spec_version=70, loss_acceptances=3)
    await say(site.az1, group, knowledge)
    await say(site.az2, group, Knowledge(1, is_primary=False, spec_version=12))
    shown = await show(site, group["id"])
    assert (shown["twinsite"]["secondary"], shown["twinsite"]["term"]) == ("stale", 1)
    assert (spec(site.az2).version > 70, spec(site.az2).loss_acceptances) == (True, 3)
    answer = await site.act(group["id"], "failover")
    assert (answer.status_code, "is stale" in answer.text) == (400, True), answer.text
    events = (await site.call("GET", f"/os-vendor-replication-consistency-groups/{group['id']}/events")).json()
    assert "restored" in [event["action"] for event in events["events"]]


async def test_what_a_worker_says_without_having_been_asked_does_not_count_as_heard(site: Site) -> None:
    """A grant of the database that was replaced may have been on its way to it."""
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    for node in (site.az1, site.az2):
        node.alter(group["id"], knowledge=Knowledge(1, node is site.az1, row_version=1, answers=""))
        await node.post()
    failover = (await show(site, group["id"]))["twinsite"]["failover"]
    assert (failover["possible"], "az1 and az2" in failover["reason"]) == (False, True)


async def test_force_waits_for_nobody(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    answer = await site.act(group["id"], "failover", {"force": True})
    assert (answer.status_code, "does not say yet" in answer.text) == (400, True)
    await site.az2.post()  # It says that its disks are of one moment, and nothing of terms.
    assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"]) == ("failovered", "az2")
    assert shown["twinsite"]["term"] > 1_000_000


async def test_the_count_of_changes_tells_a_backup(site: Site) -> None:
    await active_group(site)
    database = site.controller.context.database
    path = site.settings.controller_dir / FILE_NAME
    kept, term, version = (int(word) for word in path.read_text().split())
    assert kept > 0
    for content, is_backup in [
        (f"{kept} {term} {version}\n", False),
        (f"{kept} {term + 2} {version + 5}\n", False),
        (f"{kept}\n", False),
        (f"{kept - 1}\n", False),
        (f"{kept + 1} 0 0\n", True),
        (f"{kept + 9}\n", True),
        (f"{kept} {term}\n", True),
        (f"{kept} {term} {2**62 + 1}\n", True),
        (f"{kept} -1 {version}\n", True),
        ("", True),
        (None, True),
    ]:
        path.unlink() if content is None else path.write_text(content)
        memory = Memory(site.settings.controller_dir, database)
        await memory.open()
        assert memory._has_distrusted is is_backup, content


async def test_a_count_that_found_the_disk_full_is_kept_once_there_is_room(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    path = site.settings.controller_dir / FILE_NAME
    group = await active_group(site)
    before = counted(path)
    with monkeypatch.context() as patching:
        patching.setattr(restored, "replace_file", refuse)
        patching.setattr(restored, "KEEP_AGAIN_SECONDS", 0.0)
        assert (await site.act(group["id"], "failover")).status_code == 200
        await site.az1.post()
        assert counted(path) == before
    await site.az1.post()
    assert counted(path) > before


def counted(path: Path) -> int:
    """Return how many changes the controller remembers."""
    return int(path.read_text().split()[0])


async def test_one_file_is_written_for_all_changes_that_wait_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    loop, is_writing, is_first_waited_for = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def replace_file(path: Path, text: str, mode: int) -> None:
        written.append(text)
        loop.call_soon_threadsafe(is_writing.set)
        assert is_first_waited_for.wait(WAIT_SECONDS)

    monkeypatch.setattr(restored, "replace_file", replace_file)
    memory = Memory(site.settings.controller_dir, site.controller.context.database)
    keeping = [asyncio.create_task(memory.keep(ArbiterChanges(10 + n, Reached(n, 100 - n)))) for n in range(9)]
    await is_writing.wait()
    await memory.keep_owed()  # It waits for nothing that has not failed.
    is_first_waited_for.set()
    await asyncio.gather(*keeping)
    assert written == ["10 0 100\n", "18 8 100\n"]


async def test_damaged_numbers_of_a_worker_are_not_taken_in(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    await say(site.az1, group, Knowledge(1, is_primary=True, row_version=2**62 + 1))
    await say(site.az2, group, Knowledge(2**62 + 1, is_primary=True))
    async with site.controller.context.database.read() as session:
        row = await arbiter_rows.find(session, group["id"])
    assert row is not None
    assert (row.unheard, row.term, row.reached.version < 2**62) == (["az1", "az2"], 1, True)


async def test_what_no_site_has_heard_of_is_remembered_beside_the_database(site: Site) -> None:
    """A database that was left was forced ahead; what is restored after that goes beyond it."""
    group = await active_group(site)
    path = site.settings.controller_dir / FILE_NAME
    memory = site.controller.reconciler._memory
    term, version = 5 + FORGOTTEN_TERMS_MAX, 3 + FORCED_VERSIONS
    await memory.keep(ArbiterChanges(1, Reached(term, version)))
    assert path.read_text().split()[1:] == [str(term), str(version)]
    assert await memory.distrust()
    for node in (site.az1, site.az2):
        await say(node, group, Knowledge(1, node is site.az1, row_version=4, row_in_sync=node is site.az1))
    async with site.controller.context.database.read() as session:
        row = await arbiter_rows.find(session, group["id"])
    assert row is not None
    assert (row.unheard, row.term, row.version > version) == ([], 1, True)
    assert int(path.read_text().split()[2]) >= row.version


async def start_on_an_empty_database(site: Site) -> None:
    empty = Database(f"sqlite+aiosqlite:///{site.settings.controller_dir}/empty.db")
    try:
        await empty.open()
        async with empty.write() as session:
            session.add(Installation(id="new", created_at=utc_now()))
        await Memory(site.settings.controller_dir, empty).open()
    finally:
        await empty.close()


async def test_a_start_on_an_empty_database_vouches_for_no_backup(site: Site) -> None:
    await active_group(site)
    database = site.controller.context.database
    path = site.settings.controller_dir / FILE_NAME
    kept = counted(path)
    path.write_text(f"{10 * kept}\n")
    await start_on_an_empty_database(site)
    assert counted(path) >= 10 * kept
    backup = Memory(site.settings.controller_dir, database)
    await backup.open()
    assert backup._has_distrusted
    assert counted(path) > 10 * kept, "nor does what was distrusted for another one"


async def test_a_first_start_without_a_change_vouches_for_no_backup(site: Site) -> None:
    path = site.settings.controller_dir / FILE_NAME
    path.unlink(missing_ok=True)
    await start_on_an_empty_database(site)
    assert not path.exists()


async def test_a_count_is_kept_when_a_controller_starts(site: Site) -> None:
    await active_group(site)
    path = site.settings.controller_dir / FILE_NAME
    kept = path.read_text()
    path.write_text("1\n")
    await Memory(site.settings.controller_dir, site.controller.context.database).open()
    assert path.read_text() == kept


async def test_a_worker_that_knows_more_than_a_row_that_was_believed_refutes_all_of_them(site: Site) -> None:
    group, other = await active_group(site), await site.make_group()
    await say(site.az1, group, Knowledge(1, is_primary=True, row_version=9))
    answer = await site.act(group["id"], "failover")
    assert (answer.status_code, "restored from a backup" in answer.text) == (400, True)
    assert "az1 and az2" in (await show(site, other["id"]))["twinsite"]["failover"]["reason"]


async def test_giving_a_site_up_vouches_for_nothing(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    await say(site.az2, group, Knowledge(1, is_primary=False))
    async with silenced(site, "az1"):
        path = "/os-vendor-sites/az1/action"
        assert (await site.call("POST", path, {"os-forget-site": None})).status_code == 200
        answer = await site.act(group["id"], "failover")
        assert (answer.status_code, "would lose all writes since" in answer.text) == (400, True), answer.text
        assert (await show(site, group["id"]))["twinsite"]["term"] > 1_000_000


async def test_a_switchover_that_was_forgotten_goes_on_protected(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    await say(site.az1, group, Knowledge(2, is_primary=False, spec_version=50))
    assert (await show(site, group["id"]))["status"] == "failovered"
    await say(site.az2, group, Knowledge(2, is_primary=True, row_version=30, row_in_sync=True))
    shown = await show(site, group["id"])
    assert (shown["status"], shown["priority_station"]) == ("available", "az2")
    assert (shown["twinsite"]["term"], shown["twinsite"]["secondary"]) == (2, "in_sync")
    assert spec(site.az2).replication is Replication.RUNNING


async def test_a_failover_that_the_sites_have_left_behind_does_not_come_back(site: Site) -> None:
    """The database is one that an earlier restoration had left: after that, versions are beyond all of its own."""
    group = await active_group(site)
    assert (await site.act(group["id"], "failover")).status_code == 200
    assert await site.controller.reconciler._memory.distrust()
    later = FORGOTTEN_VERSIONS_MAX + 5
    await say(site.az2, group, Knowledge(1, is_primary=False, row_version=3))
    await say(site.az1, group, Knowledge(1, is_primary=True, row_version=later, row_stale_since=90.0))
    shown = await show(site, group["id"])
    assert (shown["priority_station"], shown["twinsite"]["secondary"]) == ("az1", "stale")
    for node in (site.az1, site.az2):
        await node.post()
        wanted = spec(node)
        assert (wanted.is_row_trusted, wanted.term > FORGOTTEN_TERMS_MAX, wanted.row_version > later) == (True,) * 3
    events = (await site.call("GET", f"/os-vendor-replication-consistency-groups/{group['id']}/events")).json()
    message = next(event["message"] for event in events["events"] if event["action"] == "restored")
    assert message == f"the database was restored from a backup; az1 knows of term 1, version {later}"


async def test_a_forced_failover_is_not_taken_back_by_a_site_that_comes_late(site: Site) -> None:
    """The backup is from before an earlier restoration, so that both sites know of versions beyond its own."""
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    async with silenced(site, "az1"):
        await site.az2.post()
        assert (await site.act(group["id"], "failover", {"force": True})).status_code == 200
        site.az2.alter(group["id"], knowledge=Knowledge(1, is_primary=False, row_version=FORGOTTEN_VERSIONS_MAX))
        await site.az2.post()
    late = Knowledge(1, is_primary=True, row_version=FORGOTTEN_VERSIONS_MAX + 62)
    site.az1.alter(group["id"], knowledge=late)
    await site.az1.post()
    await site.settle()
    shown = await show(site, group["id"])
    assert (shown["priority_station"], shown["status"]) == ("az2", "failovered")
    assert not site.controller.reconciler._memory.is_refuted


async def test_a_group_that_was_being_made_is_let_go_on_by_force(site: Site) -> None:
    """Its workers know nothing that would have to be heard, and never will."""
    site.az1.changes = site.az2.changes = defaultdict(
        lambda: lambda status: replace(status, spec_version=0, mode=Mode.HOLDING)
    )
    pair = await site.make_pair()
    made = await site.call("POST", GROUPS, {"replication_consistency_group": group_fields([pair["id"]])})
    group = made.json()["replication_consistency_group"]
    assert await site.controller.reconciler._memory.distrust()
    for node in (site.az1, site.az2):
        await node.step()
    assert (await site.act(group["id"], "stop")).status_code == 400
    site.az1.changes = site.az2.changes = {}
    async with running(site.az1, site.az2):
        assert (await site.act(group["id"], "stop", {"force": True})).status_code == 200
    shown = await show(site, group["id"])
    assert shown["status"] == "available"
    assert spec(site.az1).is_row_trusted


async def test_a_worker_that_knows_nothing_is_still_told_newer_wishes(site: Site) -> None:
    group = await active_group(site)
    assert await site.controller.reconciler._memory.distrust()
    site.az2.alter(group["id"], spec_version=70, knowledge=None)
    await site.az2.post()
    await site.az2.post()
    assert spec(site.az2).version > 70
