"""The agent against a controller that a test directs, with a real pool and real processes for workers."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support import stand_in_worker
from tests.support.stand_in_controller import StandInController
from twinsite.messages import (
    DesiredVolume,
    MemberSpec,
    NodeDesired,
    NodeReport,
    Replication,
    Role,
    WorkerSpec,
    from_wire,
)
from twinsite.node import agent as agent_module
from twinsite.node.agent import Agent
from twinsite.node.controller_client import ControllerClient
from twinsite.node.pool import DirectoryPool
from twinsite.node.probes import probe_pages
from twinsite.node.record import NodeRecord
from twinsite.node.settings import NodeSettings
from twinsite.node.supervisor import Supervisor

STAND_IN = (sys.executable, stand_in_worker.__file__)
SIZE_BYTES = 1024 * 1024
WAIT_SECONDS_MAX = 20.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short temporary directory."""
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def controller() -> AsyncIterator[StandInController]:
    """A controller that desires nothing yet."""
    made = StandInController()
    await made.listen()
    await made.desire(desire(1))
    yield made
    await made.close()


class RunningNode:
    """An agent that runs until `end`."""

    def __init__(self, controller: StandInController, directory: Path, nbd_ports: range | None = None) -> None:
        self.settings = NodeSettings("az1", controller.url, directory, token="the token", nbd_ports=nbd_ports)
        self.settings.create_directories()
        self._client = ControllerClient(controller.url, "az1", "the token")
        self.agent = Agent(
            self.settings,
            DirectoryPool(self.settings.pool_dir),
            NodeRecord.load(self.settings.record_path),
            self._client,
            functools.partial(Supervisor, self.settings, command=STAND_IN),
        )
        self._running = asyncio.create_task(self.agent.run())

    async def end(self, *, stop_workers: bool = False) -> None:
        """End the agent, and the workers if asked."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if stop_workers:
            await self.agent.supervisor.stop_all()
        await self.agent.supervisor.detach()
        await self._client.close()


@pytest.fixture
async def node(controller: StandInController, directory: Path) -> AsyncIterator[RunningNode]:
    """A running node that has TCP ports for two volumes."""
    running = RunningNode(controller, directory, range(10809, 10811))
    yield running
    await running.end(stop_workers=True)


def desire(generation: int, *volumes: DesiredVolume, workers: tuple[WorkerSpec, ...] = ()) -> NodeDesired:
    """Return a desired state."""
    return NodeDesired("installation 1", generation, list(volumes), list(workers))


def new_volume() -> DesiredVolume:
    """Return a volume that is not there yet."""
    return DesiredVolume(str(uuid.uuid4()), SIZE_BYTES, "SSD")


def solo(volume: DesiredVolume, version: int = 1) -> WorkerSpec:
    """Return a spec as the controller sends it."""
    members = [MemberSpec(0, volume.id, volume.size_bytes)]
    return WorkerSpec(volume.id, version, Role.SOLO, 0, Replication.PAUSED, members)


def states(report: NodeReport) -> dict[str, str]:
    """Return the states of the volumes in a report."""
    return {volume.id: volume.state for volume in report.volumes}


def serving(report: NodeReport) -> set[str]:
    """Return the ids of the workers that say that they have a spec in force."""
    return {worker.id for worker in report.workers if worker.status is not None and worker.status.spec_version > 0}


async def test_a_spec_is_filled_in_with_what_only_the_node_knows(
    controller: StandInController, node: RunningNode
) -> None:
    volumes = [new_volume(), new_volume()]
    group_id = str(uuid.uuid4())
    members = [MemberSpec(0, volumes[0].id, SIZE_BYTES)]
    sent = WorkerSpec(
        group_id, 1, Role.SECONDARY, 4, Replication.PAUSED, members, site="az1", arbiter_token="the group's"
    )
    await controller.desire(desire(2, *volumes, workers=(sent, solo(volumes[1]))))
    await controller.until_report(lambda r: serving(r) == {group_id, volumes[1].id})

    def taken(worker_id: str) -> WorkerSpec:
        text = (node.settings.worker_state_dir(worker_id) / "taken-spec.json").read_text()
        return from_wire(WorkerSpec, json.loads(text))

    spec = taken(group_id)
    assert spec.arbiter_url == f"{controller.url}/internal/v1/groups/{group_id}/arbiter"
    assert (spec.site, spec.arbiter_token, spec.term) == ("az1", "the group's", 4)
    assert spec.stream_listen == "127.0.0.1:0"
    assert spec.members[0].nbd_socket == str(node.settings.nbd_socket_path(volumes[0].id))
    alone = taken(volumes[1].id)  # A volume outside any group has nobody to arbitrate about it.
    assert (alone.arbiter_url, alone.stream_listen) == (None, None)


async def test_volumes_are_made_addressed_and_deleted(controller: StandInController, node: RunningNode) -> None:
    first, second, third = new_volume(), new_volume(), new_volume()
    await controller.desire(desire(2, first, second))
    report = await controller.until_report(lambda r: states(r) == {first.id: "ready", second.id: "ready"})
    socket = f"nbd+unix:///{first.id}?socket={node.settings.nbd_socket_path(first.id)}"
    uris = {volume.id: volume.nbd_uris for volume in report.volumes}
    assert uris[first.id][0] == socket
    assert uris[first.id][1:] == [f"nbd://127.0.0.1:10809/{first.id}"]
    assert uris[second.id][1:] == [f"nbd://127.0.0.1:10810/{second.id}"]
    assert (node.settings.pool_dir / f"{first.id}.raw").stat().st_size == SIZE_BYTES
    assert report.seen_generation == 2
    assert report.pool.total_bytes > report.pool.free_bytes > 0
    assert controller.tokens == {"the token"}
    assert controller.paths == {"/internal/v1/nodes/az1/sync"}

    # A third volume finds no port; the deletion of another gives one back.
    await controller.desire(desire(3, first, second, third))
    report = await controller.until_report(lambda r: states(r).get(third.id) == "error")
    failure = next(volume.failure for volume in report.volumes if volume.id == third.id)
    assert failure is not None
    assert "--nbd-ports" in failure.message
    await controller.desire(desire(4, replace(first, deleted=True), second, third))
    await controller.until_report(lambda r: states(r).get(first.id) == "deleted")
    assert not (node.settings.pool_dir / f"{first.id}.raw").exists()
    await controller.desire(desire(5, second, third))
    report = await controller.until_report(lambda r: states(r) == {second.id: "ready", third.id: "ready"})


async def test_unlisted_volumes_are_left_alone_and_known_after_a_restart(
    controller: StandInController, directory: Path
) -> None:
    node = RunningNode(controller, directory)
    volume = new_volume()
    await controller.desire(desire(2, volume))
    await controller.until_report(lambda r: states(r) == {volume.id: "ready"})
    await controller.desire(desire(3))
    await controller.until_report(lambda r: r.seen_generation == 3)
    await node.end()
    assert (node.settings.pool_dir / f"{volume.id}.raw").exists()

    controller.reports.clear()
    again = RunningNode(controller, directory)
    report = await controller.until_report(lambda r: True)
    assert states(report) == {volume.id: "ready"}
    await again.end()


async def test_a_volume_that_vanished_is_not_replaced_by_an_empty_one(
    controller: StandInController, directory: Path
) -> None:
    node = RunningNode(controller, directory)
    volume = new_volume()
    await controller.desire(desire(2, volume))
    await controller.until_report(lambda r: states(r) == {volume.id: "ready"})
    await node.end()
    path = node.settings.pool_dir / f"{volume.id}.raw"
    path.rename(path.with_suffix(".away"))

    again = RunningNode(controller, directory)
    report = await controller.until_report(lambda r: states(r).get(volume.id) == "error")
    (observed,) = report.volumes
    assert observed.failure is not None
    assert "gone" in observed.failure.message
    assert not path.exists()
    await again.end()


async def test_a_volume_that_is_shorter_than_it_was_is_not_filled_up(
    controller: StandInController, directory: Path
) -> None:
    node = RunningNode(controller, directory)
    volume = new_volume()
    await controller.desire(desire(2, volume))
    await controller.until_report(lambda r: states(r) == {volume.id: "ready"})
    await node.end()
    with (node.settings.pool_dir / f"{volume.id}.raw").open("r+b") as file:
        file.truncate(4096)
    again = RunningNode(controller, directory)
    await controller.until_report(lambda r: states(r).get(volume.id) == "error")
    await again.end()


async def test_workers_are_started_fed_and_stopped(controller: StandInController, node: RunningNode) -> None:
    volume = new_volume()
    await controller.desire(desire(2, volume, workers=(solo(volume),)))
    report = await controller.until_report(lambda r: serving(r) == {volume.id})
    (worker,) = report.workers
    assert worker.alive
    assert worker.pid is not None
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await node.agent.ready.wait()
    await controller.desire(desire(3, volume, workers=(solo(volume, version=2),)))
    await controller.until_report(
        lambda r: any(w.status is not None and w.status.spec_version == 2 and w.pid == worker.pid for w in r.workers)
    )
    await controller.desire(desire(4, volume))
    await controller.until_report(lambda r: r.seen_generation == 4 and not r.workers)
    assert not Path(f"/proc/{worker.pid}").exists()


async def test_a_volume_is_deleted_only_after_its_worker_has_let_go(
    controller: StandInController, node: RunningNode
) -> None:
    volume = new_volume()
    await controller.desire(desire(2, volume, workers=(solo(volume),)))
    await controller.until_report(lambda r: serving(r) == {volume.id})
    (node.settings.worker_state_dir(volume.id) / "slow").touch()
    await controller.desire(desire(3, replace(volume, deleted=True)))
    await controller.until_report(lambda r: states(r) == {volume.id: "deleted"})
    # Had it been tried while the worker had it open, the store's lock would have refused and a report said so.
    assert all(state != "error" for report in controller.reports for state in states(report).values())
    assert not node.settings.worker_state_dir(volume.id).exists()


async def test_a_worker_waits_for_a_volume_that_cannot_be_made(
    controller: StandInController, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS", 0.05)
    volume = new_volume()
    obstacle = node.settings.pool_dir / f"{volume.id}.raw"
    obstacle.write_bytes(bytes(2 * SIZE_BYTES))
    await controller.desire(desire(2, volume, workers=(solo(volume),)))
    report = await controller.until_report(lambda r: any(worker.failure for worker in r.workers))
    (worker,) = report.workers
    assert worker.failure is not None
    assert not worker.alive
    assert volume.id in worker.failure.message
    assert "move it away" in worker.failure.message, "the cause and the way out"
    async with asyncio.timeout(agent_module.SETTLE_SECONDS_MAX / 2):
        await node.agent.ready.wait()
    obstacle.unlink()
    await controller.until_report(lambda r: serving(r) == {volume.id})


async def test_another_installation_is_refused(controller: StandInController, directory: Path) -> None:
    node = RunningNode(controller, directory)
    await controller.until_report(lambda r: r.seen_generation == 1)
    await node.end()

    volume = new_volume()
    await controller.desire(replace(desire(9, volume), installation_id="installation 2"))
    controller.reports.clear()
    with capture_logs() as logs:
        again = RunningNode(controller, directory)
        await controller.until_report(lambda r: len(controller.reports) >= 2)
        await again.end()
    reasons = [entry["reason"] for entry in logs if "reason" in entry]
    assert len(reasons) == 1, "the same refusal is logged once"
    assert "installation 1" in reasons[0]
    assert "installation 2" in reasons[0]
    assert all(report.seen_generation == 0 and not report.volumes for report in controller.reports)
    assert not again.agent.ready.is_set()


async def test_an_older_generation_is_ignored(controller: StandInController, node: RunningNode) -> None:
    volume = new_volume()
    await controller.desire(desire(5, volume, workers=(solo(volume),)))
    report = await controller.until_report(lambda r: serving(r) == {volume.id})
    pid = report.workers[0].pid
    assert pid is not None
    # Reports of changes are not held, so the one on the killed worker is answered with the older state.
    await controller.desire(desire(4, replace(volume, deleted=True)))
    os.kill(pid, signal.SIGKILL)
    report = await controller.until_report(lambda r: serving(r) == {volume.id} and r.workers[0].pid != pid)
    assert report.seen_generation == 5
    assert states(report) == {volume.id: "ready"}


@pytest.mark.parametrize(("status", "hint"), [(401, "--token-file"), (404, "--site"), (503, "503")])
async def test_a_refusal_is_logged_with_a_hint_and_survived(
    controller: StandInController, directory: Path, status: int, hint: str
) -> None:
    controller.refusal = status
    with capture_logs() as logs:
        node = RunningNode(controller, directory)
        await controller.until_report(lambda r: len(controller.reports) >= 2)
        controller.refusal = 0
        await controller.until_report(lambda r: r.seen_generation == 1)
        await node.end()
    (refusal, *_) = [entry for entry in logs if "reason" in entry]
    assert hint in refusal["reason"]
    assert "the token" not in str(logs)
    assert any(entry["event"] == "the controller answers again" for entry in logs)


async def test_a_controller_that_comes_back_is_found(
    controller: StandInController, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RECONNECT_SECONDS_MAX", 0.2)
    await controller.until_report(lambda r: r.seen_generation == 1)
    await controller.close()
    successor = StandInController()
    volume = new_volume()
    await successor.desire(desire(2, volume))
    await successor.listen(int(controller.url.rsplit(":", 1)[1]))
    await successor.until_report(lambda r: states(r) == {volume.id: "ready"})
    await successor.close()


async def test_what_the_worker_of_a_deleted_group_left_is_removed_when_the_controller_says_so(
    controller: StandInController, node: RunningNode
) -> None:
    volume, group_id = new_volume(), str(uuid.uuid4())
    members = [MemberSpec(0, volume.id, SIZE_BYTES)]
    worker = WorkerSpec(group_id, 1, Role.SECONDARY, 1, Replication.PAUSED, members, site="az1")
    await controller.desire(desire(2, volume, workers=(worker,)))
    await controller.until_report(lambda r: serving(r) == {group_id})
    state, log = node.settings.worker_state_dir(group_id), node.settings.log_dir / f"{group_id}.log"
    assert (state.exists(), log.exists()) == (True, True)
    # Not listed is not deleted; and what is listed both ways is kept.
    await controller.desire(desire(3, volume))
    await controller.until_report(lambda r: r.seen_generation == 3 and not r.workers)
    assert (state.exists(), log.exists()) == (True, True)
    await controller.desire(replace(desire(4, volume, workers=(worker,)), deleted_workers=[group_id]))
    await controller.until_report(lambda r: r.seen_generation == 4 and serving(r) == {group_id})
    assert (state.exists(), log.exists()) == (True, True)
    await controller.desire(replace(desire(5, volume), deleted_workers=[group_id, "../pool"]))
    await controller.until_report(lambda r: r.deleted_workers == [group_id])
    assert (state.exists(), log.exists()) == (False, False)
    assert (node.settings.pool_dir / f"{volume.id}.raw").exists()
    await controller.desire(desire(6, volume))
    await controller.until_report(lambda r: r.seen_generation == 6 and not r.deleted_workers)


async def test_the_probes_say_whether_the_node_can_work(controller: StandInController, directory: Path) -> None:
    controller.refusal = 503
    node = RunningNode(controller, directory)
    pages = probe_pages(node.agent, "az1")
    assert (await pages["/healthz"]()).status == 200
    answer = await pages["/readyz"]()
    assert answer.status == 503
    assert not any(json.loads(answer.body)["checks"][name] for name in ("desired_state", "controller"))

    controller.refusal = 0
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await node.agent.ready.wait()
    answer = await pages["/readyz"]()
    assert answer.status == 200
    assert json.loads(answer.body)["checks"] == {"desired_state": True, "pool": True, "controller": True}
    await node.end()

    # A pool that has gone makes the next node unready, whatever it has been told.
    node = RunningNode(controller, directory)
    pages = probe_pages(node.agent, "az1")
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await node.agent.ready.wait()
    node.settings.pool_dir.rmdir()
    await controller.desire(desire(2))
    await controller.until_report(lambda report: report.pool.total_bytes == 0)
    assert (await pages["/readyz"]()).status == 503
    await node.end()
