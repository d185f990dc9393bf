"""PostgreSQL on a protected group, its WAL and its data on two disks of it: the primary site is lost under load.

After an unforced failover both file systems are sound, the database recovers, and every commit that a client was told
of is there. `TWINSITE_POSTGRES_RUNS=10` repeats it.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.api_group import Group
from tests.support.attached_disk import AttachedDisk, require_tools
from tests.support.parts import Parts
from tests.support.postgres import USER, CommittingClient, Postgres, programs

RUNS = int(os.environ.get("TWINSITE_POSTGRES_RUNS", "1"))
CLIENTS = 3
SCALE_ROWS = "1"
PGBENCH_SECONDS_MAX = "60"
BALANCES = [
    "SELECT sum(abalance) FROM pgbench_accounts",
    "SELECT sum(bbalance) FROM pgbench_branches",
    "SELECT sum(tbalance) FROM pgbench_tellers",
    "SELECT coalesce(sum(delta), 0) FROM pgbench_history",
]


@pytest.fixture
def parts() -> Iterator[Parts]:
    """A running installation of a controller and two nodes."""
    require_tools()
    programs()
    with ExitStack() as stack:
        made = Parts(stack)
        made.start_controller()
        for site in ("az1", "az2"):
            made.start_node(site)
        yield made


@pytest.fixture
def group(parts: Parts) -> Group:
    """An active group of two pairs, empty still."""
    made = Group(parts.installation, 2)
    made.synchronize()
    return made


def attach(stack: ExitStack, group: Group, site: str) -> list[AttachedDisk]:
    return [stack.enter_context(AttachedDisk(uri)) for uri in group.connect(site)]


def flushes(group: Group) -> int:
    """How many flushes hosts have asked the primary worker for."""
    return group.worker_status(group.show()["priority_station"]).counters.flushes


@pytest.mark.parametrize("flushes_expected", [True, False], ids=["barrier", "nobarrier"])
def test_a_flush_of_the_file_system_arrives_as_one_of_the_export(group: Group, flushes_expected: bool) -> None:
    """Without barriers ext4 asks for none: that shows that the count is theirs. A late one of the mount may arrive."""
    (uri, _) = group.connect("az1")
    with AttachedDisk(uri) as disk:
        disk.format()
        disk.mount("barrier" if flushes_expected else "nobarrier")
        before = flushes(group)
        for number in range(5):
            with (disk.path / "file").open("ab") as file:
                file.write(b"%d" % number)
                os.fsync(file.fileno())
        arrived = flushes(group) - before
        disk.unmount()
    assert arrived >= 5 if flushes_expected else arrived < 5, f"{arrived} flushes arrived"


@pytest.mark.parametrize("run_number", range(RUNS))
def test_every_commit_that_a_client_saw_survives_the_loss_of_the_primary_site(
    parts: Parts, group: Group, run_number: int
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    committed = lose_the_primary_site(parts, group, source.randint(50, 400))
    with ExitStack() as stack:
        disks = attach(stack, group, "az2")
        for disk in disks:
            disk.mount()
            disk.unmount()
            disk.check()
            disk.mount()
        server = stack.enter_context(Postgres(*disks))
        server.start()
        check_commits(server, committed)
        balances = {server.query(text) for text in BALANCES}
        assert len(balances) == 1, f"transactions are there in part: {balances}"
        server.query("INSERT INTO committed VALUES (0, 1)")
        server.stop()
        server.check_pages()
        for disk in disks:
            disk.unmount()
            disk.check()
    parts.start_node("az1")
    group.act("reprotect")
    group.wait_active()
    group.assert_twins_equal()


def lose_the_primary_site(parts: Parts, group: Group, commits: int) -> dict[int, int]:
    """Run a database in az1, kill the site after this many commits of the first client, and fail over.

    Returns the last number that each client was told to be committed.
    """
    with ExitStack() as stack:
        disks = attach(stack, group, "az1")
        for disk in disks:
            disk.format()
            disk.mount()
        server = stack.enter_context(Postgres(*disks))
        server.create()
        server.start()
        server.query("CREATE TABLE committed (client int, number int, PRIMARY KEY (client, number))")
        server.run("pgbench", *server.where(), "-q", "-i", "-s", SCALE_ROWS)
        load = server.command("pgbench", *server.where(), "-n", "-c", "2", "-T", PGBENCH_SECONDS_MAX, USER)
        pgbench = subprocess.Popen(load)
        stack.callback(pgbench.wait)
        stack.callback(pgbench.kill)
        clients = [CommittingClient(server, name) for name in range(1, CLIENTS + 1)]
        for client in clients:
            stack.callback(client.end)
        clients[0].wait_for(commits)
        assert pgbench.poll() is None, "pgbench ended before the disaster"
        parts.kill_site("az1")
        group.fail_over()
    # What a client was told while the site died is known for sure only now that its process has ended.
    committed = {client.name: client.committed for client in clients}
    print(f"killed after {commits} commits of the first client; told to be committed: {committed}")
    return committed


def check_commits(server: Postgres, committed: dict[int, int]) -> None:
    """Each client's numbers are there, from the first to the last that it was told of, and at most one more."""
    for name, last in committed.items():
        text = f"SELECT count(*), min(number), max(number) FROM committed WHERE client = {name}"
        count, first, found = map(int, server.query(text).split("|"))
        assert found >= last, f"client {name} was told that {last} is committed, and the database ends with {found}"
        assert found <= last + 1, f"client {name}: {found} was never asked for after {last}"
        assert (first, count) == (1, found), f"client {name}: there are gaps, {count} numbers up to {found}"
