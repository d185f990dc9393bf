"""The supervisor with real processes: most with a stand-in that can misbehave, the main paths with the real worker."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support import stand_in_worker
from twinsite.messages import MemberSpec, ObservedWorker, Replication, Role, StorePlace, WorkerSpec
from twinsite.node import worker_process
from twinsite.node.settings import NodeSettings
from twinsite.node.supervisor import Supervisor
from twinsite.node.worker_process import WORKER_COMMAND
from twinsite.pidfile import living_pid
from twinsite.stores.opening import create_file_store

STAND_IN = (sys.executable, stand_in_worker.__file__)
SIZE_BYTES = 1024 * 1024
WAIT_SECONDS_MAX = 20.0

either_worker = pytest.mark.parametrize("command", [STAND_IN, WORKER_COMMAND], ids=["stand-in", "real"])


@pytest.fixture
def settings() -> Iterator[NodeSettings]:
    """Settings of a node on a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    made = NodeSettings("az1", "http://127.0.0.1:1", directory, token="unused")
    made.create_directories()
    yield made
    shutil.rmtree(directory)


class Site:
    """A supervisor that is driven as the agent drives it, and everything that it was seen to report."""

    def __init__(self, settings: NodeSettings, command: tuple[str, ...] = STAND_IN) -> None:
        self.settings = settings
        self.specs: dict[str, WorkerSpec] = {}
        self.seen: list[ObservedWorker] = []
        self._changed = asyncio.Event()
        self.supervisor = Supervisor(settings, self._note, self._reapply, command)

    def want(self, *specs: WorkerSpec) -> None:
        """Want exactly these workers."""
        self.specs = {spec.id: spec for spec in specs}
        self._reapply()

    def worker(self, spec: WorkerSpec) -> ObservedWorker | None:
        """Return the worker as it is observed now."""
        return next((worker for worker in self.supervisor.observed() if worker.id == spec.id), None)

    def in_force(self, spec: WorkerSpec) -> bool:
        """Tell whether the worker has this spec in force and no failure."""
        worker = self.worker(spec)
        status = worker.status if worker is not None else None
        return status is not None and status.spec_version == spec.version and status.failure is None

    def pid(self, spec: WorkerSpec) -> int:
        """Return the pid of a living worker."""
        worker = self.worker(spec)
        assert worker is not None
        assert worker.pid is not None
        return worker.pid

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a change makes the condition true."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _note(self) -> None:
        self.seen += self.supervisor.observed()
        self._changed.set()

    def _reapply(self) -> None:
        self.supervisor.apply(set(self.specs), list(self.specs.values()))
        self._note()


@pytest.fixture
async def make_site(settings: NodeSettings) -> AsyncIterator[Callable[..., Site]]:
    """Make sites on one directory; at the end no worker lives, whatever the test did."""
    sites: list[Site] = []

    def make(command: tuple[str, ...] = STAND_IN) -> Site:
        sites.append(Site(settings, command))
        return sites[-1]

    yield make
    for site in sites:
        site.specs = {}
        await site.supervisor.stop_all()
        await site.supervisor.detach()
    assert [path for path in settings.worker_run_dir.glob("*.pid") if living_pid(path) is not None] == []


def new_volume(settings: NodeSettings) -> str:
    """Make a volume and return its id."""
    volume_id = str(uuid.uuid4())
    create_file_store(str(settings.pool_dir / f"{volume_id}.raw"), SIZE_BYTES)
    return volume_id


def make_spec(
    settings: NodeSettings, *volume_ids: str, worker_id: str = "", version: int = 1, role: Role = Role.SOLO
) -> WorkerSpec:
    """Return a complete spec."""
    members = [
        MemberSpec(
            index,
            volume_id,
            SIZE_BYTES,
            StorePlace("file", str(settings.pool_dir / f"{volume_id}.raw")),
            str(settings.nbd_socket_path(volume_id)),
        )
        for index, volume_id in enumerate(volume_ids)
    ]
    listen = "127.0.0.1:0" if role is Role.SECONDARY else None
    id_ = worker_id or str(uuid.uuid4())
    return WorkerSpec(id_, version, role, 1, Replication.PAUSED, members, stream_key="00" * 32, stream_listen=listen)


def no_failures(site: Site) -> bool:
    """Tell whether no worker ever reported a failure, such as a store that another one had open."""
    return all(
        worker.failure is None and (worker.status is None or worker.status.failure is None) for worker in site.seen
    )


@either_worker
async def test_a_wanted_worker_gets_its_spec_and_an_unwanted_one_ends(
    settings: NodeSettings, make_site: Callable[..., Site], command: tuple[str, ...]
) -> None:
    site = make_site(command)
    spec = make_spec(settings, new_volume(settings))
    site.want(spec)
    await site.until(lambda: site.in_force(spec))
    pid = site.pid(spec)
    assert living_pid(settings.worker_run_dir / f"{spec.id}.pid") == pid
    assert os.getsid(pid) == pid, "the worker has a session of its own"
    assert site.supervisor.has_settled({spec.id})
    site.want()
    await site.until(lambda: site.worker(spec) is None)
    assert list(settings.worker_run_dir.iterdir()) == []
    assert not Path(f"/proc/{pid}").exists()
    assert no_failures(site)


@either_worker
async def test_a_volume_moves_into_a_group_and_out_again(
    settings: NodeSettings, make_site: Callable[..., Site], command: tuple[str, ...]
) -> None:
    site = make_site(command)
    first, second = new_volume(settings), new_volume(settings)
    solo = make_spec(settings, first)
    site.want(solo)
    await site.until(lambda: site.in_force(solo))
    (settings.worker_state_dir(solo.id) / "slow").touch()
    group = make_spec(settings, first, second, role=Role.SECONDARY)
    site.want(group)
    await site.until(lambda: site.in_force(group))
    assert site.worker(solo) is None
    (settings.worker_state_dir(group.id) / "slow").touch()
    smaller = dataclasses.replace(group, version=2, members=group.members[1:])
    again = make_spec(settings, first, worker_id=solo.id, version=2)
    pid = site.pid(group)
    site.want(smaller, again)
    await site.until(lambda: site.in_force(smaller) and site.in_force(again))
    assert site.pid(group) == pid, "a group that only lets a volume go is not restarted"
    assert no_failures(site)


async def test_two_groups_that_swap_volumes_do_not_wait_for_each_other(
    settings: NodeSettings, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    first, second = new_volume(settings), new_volume(settings)
    left, right = make_spec(settings, first), make_spec(settings, second)
    site.want(left, right)
    await site.until(lambda: site.in_force(left) and site.in_force(right))
    left = make_spec(settings, second, worker_id=left.id, version=2)
    right = make_spec(settings, first, worker_id=right.id, version=2)
    site.want(left, right)
    await site.until(lambda: site.in_force(left) and site.in_force(right))
    assert no_failures(site)


@either_worker
async def test_a_killed_worker_is_started_again(
    settings: NodeSettings, make_site: Callable[..., Site], command: tuple[str, ...]
) -> None:
    site = make_site(command)
    spec = make_spec(settings, new_volume(settings))
    site.want(spec)
    await site.until(lambda: site.in_force(spec))
    pid = site.pid(spec)
    os.kill(pid, signal.SIGKILL)
    await site.until(lambda: not site.in_force(spec))
    await site.until(lambda: site.in_force(spec))
    assert site.pid(spec) != pid


@either_worker
async def test_workers_outlive_their_supervisor_and_are_adopted(
    settings: NodeSettings, make_site: Callable[..., Site], command: tuple[str, ...]
) -> None:
    site = make_site(command)
    kept = make_spec(settings, new_volume(settings))
    dropped = make_spec(settings, new_volume(settings))
    site.want(kept, dropped)
    await site.until(lambda: site.in_force(kept) and site.in_force(dropped))
    pids = site.pid(kept), site.pid(dropped)
    await site.supervisor.detach()
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)

    successor = make_site(command)
    successor.supervisor.adopt()
    # They are alive from the first word on: a stop must not take them for dead and be over at once.
    found = [(worker.id, worker.alive) for worker in successor.supervisor.observed()]
    assert found == [(worker_id, True) for worker_id in sorted([kept.id, dropped.id])]
    # The worker that is not wanted any more lets its volume go before another gets it.
    taker = make_spec(settings, dropped.members[0].volume_id)
    successor.want(kept, taker)
    await successor.until(lambda: successor.in_force(kept) and successor.in_force(taker))
    assert successor.pid(kept) == pids[0]
    assert successor.worker(dropped) is None
    assert no_failures(successor)


async def test_adopted_workers_are_heard_before_others_start(
    settings: NodeSettings, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    first, second = new_volume(settings), new_volume(settings)
    group = make_spec(settings, first, second)
    site.want(group)
    await site.until(lambda: site.in_force(group))
    await site.supervisor.detach()
    # While no node ran, the wish changed: the group gives up a volume that a new worker takes.
    successor = make_site()
    successor.supervisor.adopt()
    smaller = dataclasses.replace(group, version=2, members=group.members[:1])
    taker = make_spec(settings, second)
    (settings.worker_state_dir(group.id) / "slow").touch()
    successor.want(taker, smaller)
    await successor.until(lambda: successor.in_force(smaller) and successor.in_force(taker))
    assert no_failures(successor)


async def test_a_worker_that_keeps_dying_is_reported_with_its_exit_status(
    settings: NodeSettings, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "RESTART_SECONDS_MIN", 0.01)
    site = make_site()
    spec = make_spec(settings, new_volume(settings))
    settings.worker_state_dir(spec.id).mkdir(parents=True)
    (settings.worker_state_dir(spec.id) / "die").touch()
    site.want(spec)
    await site.until(lambda: any(worker.failure is not None for worker in site.seen))
    worker = site.worker(spec)
    assert worker is not None
    assert worker.failure is not None
    assert "exit status 7" in worker.failure.message
    assert f"{spec.id}.log" in worker.failure.message
    assert site.supervisor.has_settled({spec.id}), "a hopeless worker does not keep a node from being ready"
    (settings.worker_state_dir(spec.id) / "die").unlink()
    await site.until(lambda: site.in_force(spec))


async def test_a_worker_that_lives_on_after_early_deaths_is_complained_of_no_more(
    settings: NodeSettings, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    spec = make_spec(settings, new_volume(settings))
    die = settings.worker_state_dir(spec.id) / "die"
    die.parent.mkdir(parents=True)
    die.touch()
    site.want(spec)
    await site.until(lambda: any(worker.failure is not None for worker in site.seen))
    monkeypatch.setattr(worker_process, "HEALTHY_SECONDS", 1.0)
    die.unlink()
    await site.until(lambda: site.in_force(spec))
    await site.until(lambda: no_complaint(site, spec))
    assert site.in_force(spec)


def no_complaint(site: Site, spec: WorkerSpec) -> bool:
    worker = site.worker(spec)
    return worker is not None and worker.failure is None


async def test_a_worker_that_ignores_sigterm_is_killed(
    settings: NodeSettings, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "STOP_SECONDS_MAX", 0.1)
    site = make_site()
    spec = make_spec(settings, new_volume(settings))
    site.want(spec)
    await site.until(lambda: site.in_force(spec))
    (settings.worker_state_dir(spec.id) / "stubborn").touch()
    pid = site.pid(spec)
    await site.supervisor.stop_all()
    assert not Path(f"/proc/{pid}").exists()


@either_worker
async def test_a_worker_that_has_just_been_started_is_stopped_too(
    settings: NodeSettings, make_site: Callable[..., Site], command: tuple[str, ...]
) -> None:
    site = make_site(command)
    spec = make_spec(settings, new_volume(settings))
    site.want(spec)
    await site.until(lambda: any(worker.pid is not None for worker in site.seen))
    pid = next(worker.pid for worker in site.seen if worker.pid is not None)
    await site.supervisor.stop_all()
    assert not Path(f"/proc/{pid}").exists()


async def test_noise_on_the_control_socket_is_survived(settings: NodeSettings, make_site: Callable[..., Site]) -> None:
    site = make_site()
    spec = make_spec(settings, new_volume(settings))
    settings.worker_state_dir(spec.id).mkdir(parents=True)
    (settings.worker_state_dir(spec.id) / "garbage").touch()
    site.want(spec)
    await site.until(lambda: any(worker.alive for worker in site.seen))
    (settings.worker_state_dir(spec.id) / "garbage").unlink()
    await site.until(lambda: site.in_force(spec))


async def test_a_volume_is_held_until_its_worker_has_ended(
    settings: NodeSettings, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    spec = make_spec(settings, new_volume(settings))
    (volume_id,) = (member.volume_id for member in spec.members)
    assert not site.supervisor.is_held(volume_id)
    site.want(spec)
    assert site.supervisor.is_held(volume_id)
    await site.until(lambda: site.in_force(spec))
    site.want()
    assert site.supervisor.is_held(volume_id)
    await site.until(lambda: site.worker(spec) is None)
    assert not site.supervisor.is_held(volume_id)
