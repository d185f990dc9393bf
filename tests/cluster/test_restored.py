"""A real installation whose controller's database goes back to a backup: what that has forgotten, the workers know."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api_group import Group
from tests.support.installation import Installation, wait_for
from tests.support.stores import pattern
from twinsite.nbd_client import NbdClient

BEFORE, AFTER = pattern(4096, 1), pattern(4096, 2)


@pytest.fixture(name="group")
def fixture_group() -> Iterator[Group]:
    installation = Installation()
    try:
        installation.start()
        group = Group(installation, 1)
        group.act("sync")
        group.wait_shown("in sync", replication_status="active")
        yield group
    finally:
        installation.close()


def database(group: Group) -> Path:
    return group.installation.directory / "controller" / "twinsite.db"


def back_up(group: Group) -> bytes:
    """Take a backup as operators do, while the controller runs."""
    with closing(sqlite3.connect(database(group))) as source, closing(sqlite3.connect(":memory:")) as target:
        source.backup(target)
        return target.serialize()


def go_back_to(group: Group, backup: bytes, *, on_a_new_machine: bool = False) -> None:
    """Stop everything, put the backup in place, and start again."""
    group.installation.stop()
    for file in database(group).parent.glob("twinsite.db*"):
        file.unlink()
    if on_a_new_machine:
        (database(group).parent / "arbiter-changes").unlink()
    database(group).write_bytes(backup)
    group.installation.start()


def write(group: Group, site: str, data: bytes) -> None:
    (uri,) = group.connect(site)
    with NbdClient(uri) as client:
        client.write(0, data)
        client.flush()


def read(group: Group, site: str) -> bytes:
    (uri,) = group.connect(site)
    with NbdClient(uri) as client:
        return client.read(0, 4096)


def refusal_of_failover(group: Group) -> str:
    """Fail over, or say why that was refused for as long as nothing changes."""
    while True:
        try:
            group.act("failover")
        except AssertionError as refusal:
            if ": 409 " not in str(refusal):  # What a worker has just said changed the group.
                return str(refusal)
        else:
            return ""


@pytest.mark.parametrize("on_a_new_machine", [False, True])
def test_a_grant_that_was_forgotten_still_keeps_a_stale_side_from_being_promoted(
    group: Group, on_a_new_machine: bool
) -> None:
    write(group, "az1", BEFORE)
    backup = back_up(group)
    group.act("stop")
    write(group, "az1", AFTER)  # The DR side has not got it, and the backup says that it has everything.
    go_back_to(group, backup, on_a_new_machine=on_a_new_machine)
    refusal = refusal_of_failover(group)
    if refusal:
        assert any(reason in refusal for reason in ("restored from a backup", "would lose all writes since")), refusal
        assert read(group, "az1") == AFTER
        group.synchronize()
        group.act("failover")
    group.wait_shown("failed over", status="failovered")
    assert read(group, "az2") == AFTER


def test_a_move_that_was_forgotten_is_found_again(group: Group) -> None:
    write(group, "az1", BEFORE)
    backup = back_up(group)
    group.act("failover")
    group.wait_shown("failed over", status="failovered")
    write(group, "az2", AFTER)
    go_back_to(group, backup)
    shown = group.wait_shown("found again", status="failovered", priority_station="az2")
    assert shown["twinsite"]["term"] == 2
    wait_for(lambda: group.show()["twinsite"]["mode"] == "paused", "a new primary that serves")
    assert read(group, "az2") == AFTER
    group.act("reprotect")
    group.wait_shown("in sync", replication_status="active")
    group.act("reverse")
    group.wait_shown("back", status="available", replication_status="active", priority_station="az1")
    assert read(group, "az1") == AFTER


def test_a_backup_that_has_forgotten_nothing_is_as_good_as_the_database(group: Group) -> None:
    write(group, "az1", BEFORE)
    go_back_to(group, back_up(group), on_a_new_machine=True)
    # A primary that has started before its secondary may have gone on alone first, and resynced.
    wait_for(lambda: not refusal_of_failover(group), "a failover that loses nothing")
    group.wait_shown("failed over", status="failovered")
    assert read(group, "az2") == BEFORE
