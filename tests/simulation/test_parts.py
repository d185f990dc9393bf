"""The simulated machine loses what a real one may lose and nothing else, and the ledger knows what that is."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from twinsite.core.arbiter import Secondary
from twinsite.core.limits import SECTOR_BYTES
from twinsite.errors import StorageFault
from twinsite_sim.files import SimFiles
from twinsite_sim.ledger import Ledger, content_of
from twinsite_sim.loop import WorldFailure
from twinsite_sim.machine import Process
from twinsite_sim.stores import SimDisk, SimStore
from twinsite_sim.volumes import disk_path
from twinsite_sim.world import SITES, World

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

T = TypeVar("T")

SECTORS = 64
OLD, NEW = b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES


def shown(disk: SimDisk) -> list[bytes]:
    return [bytes(disk.content[n * SECTOR_BYTES : (n + 1) * SECTOR_BYTES]) for n in range(SECTORS)]


def test_a_crash_keeps_what_was_flushed_and_any_part_of_the_rest() -> None:
    counts = set()
    for seed in range(40):
        disk = SimDisk("/disk", SECTORS * SECTOR_BYTES, random.Random(seed))
        store = SimStore(disk, disk.size_bytes, "a process")
        store.write(OLD * SECTORS, 0)
        store.flush()
        store.write(NEW * (SECTORS // 2), 0)
        disk.release("a process")
        assert shown(disk)[: SECTORS // 2] == [NEW] * (SECTORS // 2), "the page cache outlives the process"
        lost = disk.crash()
        sectors = shown(disk)
        assert sectors[SECTORS // 2 :] == [OLD] * (SECTORS // 2)
        assert [n for n, sector in enumerate(sectors[: SECTORS // 2]) if sector == OLD] == lost
        counts.add(len(lost))
    assert {0, SECTORS // 2} < counts, "all, nothing and parts are lost"


def test_a_flush_that_fails_drops_pages_and_is_not_repeated() -> None:
    disk = SimDisk("/disk", SECTORS * SECTOR_BYTES, random.Random(1))
    store = SimStore(disk, disk.size_bytes, "a process")
    store.write(OLD * SECTORS, 0)
    store.flush()
    store.write(NEW * SECTORS, 0)
    disk.fails_flushes = True
    with pytest.raises(StorageFault):
        store.flush()
    disk.fails_flushes = False
    with pytest.raises(StorageFault):
        store.flush()
    assert {OLD, NEW} == set(shown(disk)), "some are evicted, some still shown"
    assert disk.crash()
    assert shown(disk) == [OLD] * SECTORS


def test_a_crash_may_tear_what_a_log_was_not_synced_for() -> None:
    lengths = set()
    for seed in range(60):
        files = SimFiles(random.Random(seed))
        files.make_directory(Path("/state"))
        log = files.create_log(Path("/state/log"))
        log.write([OLD], 0)
        log.sync()
        log.write([NEW, NEW], SECTOR_BYTES)
        files.crash()
        content = files.read(Path("/state/log"))
        assert content[:SECTOR_BYTES] == OLD
        lengths.add(len(content))
    assert len(lengths) > 3


def test_a_replaced_file_is_the_old_one_or_the_new_one_and_a_removed_one_stays_away() -> None:
    for seed in range(20):
        files = SimFiles(random.Random(seed))
        path = Path("/state/file")
        files.make_directory(path.parent)
        files.replace(path, b"one")
        files.replace(path, b"two")
        files.crash()
        assert files.read(path) == b"two"
        files.remove(path)
        files.crash()
        with pytest.raises(FileNotFoundError):
            files.read(path)


class Place:
    """A process that hosts send changes to."""

    machine = "az1"
    is_alive = True


def test_what_two_crashed_machines_left_need_not_be_of_one_moment_at_the_site_that_follows() -> None:
    ledger, disk, place = Ledger([2 * SECTOR_BYTES]), bytearray(2 * SECTOR_BYTES), Place()
    lost = ledger.issue(0, range(1), 1.0, place, is_zero=False)
    ledger.done(lost, 2.0, is_fua=False)
    kept = ledger.issue(0, range(1, 2), 3.0, place, is_zero=False)
    disk[SECTOR_BYTES:] = content_of(kept)
    with pytest.raises(WorldFailure, match="not of one moment"):
        ledger.check_promotable({0: disk}, "the site that follows", None)
    ledger.start_anew({0: disk}, 5.0, "the one that both have made history", is_of_one_moment=False, place=place)
    ledger.check_promotable({0: disk}, "the site that follows", None)


def test_under_a_change_that_is_not_answered_lies_none_that_is_lost_for_good() -> None:
    ledger, disk, before, place = Ledger([SECTOR_BYTES]), bytearray(SECTOR_BYTES), Place(), Place()
    lost = ledger.issue(0, range(1), 1.0, before, is_zero=False)
    ledger.done(lost, 2.0, is_fua=False)
    ledger.start_anew({0: disk}, 3.0, "a machine that has crashed", is_of_one_moment=False, place=place)
    under_way = ledger.issue(0, range(1), 4.0, place, is_zero=False)
    ledger.start_anew({0: content_of(under_way)}, 5.0, "the same machine", is_of_one_moment=False, place=place)
    ledger.check({0: disk}, "the other site, which has not heard of it")
    with pytest.raises(WorldFailure, match="an answered change is lost"):
        ledger.check({0: content_of(lost)}, "a site that shows what is lost")


class ForgetsAll(random.Random):
    """Chooses the first of what there is: of what was not flushed, a crash keeps nothing."""

    def choice(self, seq: SupportsLenAndGetItem[T]) -> T:
        return seq[0]


def test_a_machine_that_has_lost_a_write_is_not_whole_while_the_answer_is_on_its_way() -> None:
    world = World(1)
    try:
        machine = world.machines["az1"]
        in_sync = replace(world.controller.row, primary_site="az1", secondary=Secondary.IN_SYNC, version=7)
        world.controller.on_row(in_sync, False)
        change = world.ledger.issue(0, range(1), 0.0, Process(machine, "worker-az1"), is_zero=False)
        for site in SITES:
            world.machines[site].disks[disk_path(0)].put(content_of(change), 0)
        machine.disks[disk_path(0)].random = ForgetsAll()
        machine.crash()
        world.judge.look()
        world.ledger.done(change, 1.0, is_fua=False)
        world.judge.look()
        world.machines["az2"].disks[disk_path(0)].put(bytes(SECTOR_BYTES), 0)
        with pytest.raises(WorldFailure, match="az2, which counts as in sync: an answered change is lost"):
            world.judge.look()
    finally:
        world.dispose()


def test_a_crash_counts_though_the_word_that_the_group_is_in_sync_comes_late() -> None:
    """Both machines have restarted since then, so a primary goes on with what was flushed."""
    world = World(1)
    try:
        stale = replace(world.controller.row, primary_site="az1", secondary=Secondary.STALE, version=4)
        world.controller.on_row(stale, False)
        change = world.ledger.issue(0, range(1), 0.0, Process(world.machines["az1"], "worker-az1"), is_zero=False)
        for site in SITES:
            disk = world.machines[site].disks[disk_path(0)]
            disk.put(content_of(change), 0)
            disk.random = ForgetsAll()
        world.machines["az2"].crash()
        world.ledger.done(change, 1.0, is_fua=False)
        world.controller.on_row(replace(stale, secondary=Secondary.IN_SYNC, version=5), True)
        world.controller.on_row(replace(stale, term=2, primary_site="az2", version=6), False)
        assert not world.judge._is_unsettled()
        world.machines["az1"].crash()
        assert world.judge._is_unsettled()
    finally:
        world.dispose()


def test_what_an_undo_log_brings_back_is_of_one_moment_also_before_a_start_over() -> None:
    ledger, place = Ledger([2 * SECTOR_BYTES]), Place()
    changes = []
    for number in range(2):
        changes.append(ledger.issue(0, range(number, number + 1), 1.0 + number, place, is_zero=False))
        ledger.done(changes[-1], 1.5 + number, is_fua=False)
    blank = bytearray(2 * SECTOR_BYTES)
    ledger.start_anew({0: blank}, 5.0, "who has lost both", is_of_one_moment=False, place=place)
    ledger.check_promotable({0: blank}, "who follows", None)
    ledger.check_promotable({0: b"".join(map(content_of, changes))}, "who is rolled back", None)
    with pytest.raises(WorldFailure, match="not of one moment"):
        ledger.check_promotable({0: blank[:SECTOR_BYTES] + content_of(changes[1])}, "an undo log that forgets", None)


def test_who_connects_to_a_process_again_is_not_shown_for_good_what_that_has_not_answered() -> None:
    ledger, place = Ledger([SECTOR_BYTES]), Place()
    before = bytes(SECTOR_BYTES)
    given_up = ledger.issue(0, range(1), 1.0, Place(), is_zero=False)
    ledger.cut_off(given_up)
    under_way = ledger.issue(0, range(1), 2.0, place, is_zero=False)
    ledger.settle({0: content_of(under_way)}, place, 3.0, "who is connected to again")
    ledger.check({0: before}, "the other site")
    ledger.done(under_way, 4.0, is_fua=False)
    with pytest.raises(WorldFailure, match="an answered change is lost"):
        ledger.check({0: before}, "the other site")


def test_a_zero_may_be_of_the_history_though_the_site_was_sent_one_while_it_was_replaced() -> None:
    ledger, primary, replaced = Ledger([2 * SECTOR_BYTES]), Place(), Place()
    primary.machine = "az2"
    ledger.fork(replaced.machine, 1.0, may_answer=True)
    ledger.issue(0, range(1), 2.0, replaced, is_zero=True)
    changes = [
        ledger.issue(0, range(sector, sector + 1), 3.0 + sector, primary, is_zero=not sector) for sector in range(2)
    ]
    for change in changes:
        ledger.done(change, change.issued_at + 0.5, is_fua=False)
    ledger.done(ledger.issue(0, range(1), 6.0, primary, is_zero=False), 6.5, is_fua=False)
    shown = bytes(SECTOR_BYTES) + content_of(changes[1])
    ledger.check_promotable({0: shown}, "who follows again", replaced.machine)
