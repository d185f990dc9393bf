"""Nodes without disks, in a process of their own: `python -m bench.control_nodes`.

They speak as real nodes do, with `twinsite.node.conversation`, and obey at once: a volume is ready, a worker has its
spec in force, a group that is synchronized is in sync with the next report. Groups that copy report progress as often
as real ones do.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from pathlib import Path

import httpx

from bench.control_plane import SITES, Population, State, observed_volume, observed_worker
from bench.in_force import InForceWriter
from twinsite.core.limits import GIB
from twinsite.messages import (
    Mode,
    NodeDesired,
    ObservedVolume,
    ObservedWorker,
    PoolReport,
    Replication,
    Role,
    WorkerSpec,
    from_wire,
    to_wire,
)
from twinsite.node.agent import POLL_WAIT_SECONDS, REPORT_PAUSE_SECONDS
from twinsite.node.conversation import Conversation, Observed, Statement

PROGRESS_BYTES = GIB // 1000
POOL = PoolReport(10**15, 10**15)


class Node:
    """One site's node."""

    def __init__(
        self, http: httpx.AsyncClient, site: str, population: Population, node_token: str, noted: InForceWriter
    ) -> None:
        """Begin where the database was left, and note when a primary has a spec in force."""
        self._http = http
        self._site = site
        self._token = {"X-Twinsite-Node-Token": node_token}
        self._talk = Conversation(site, f"bench-{site}")
        self._copying = set(population.groups(State.COPYING))
        self._volumes: dict[str, ObservedVolume] = {}
        self._workers: dict[str, ObservedWorker] = {}
        self._in_force: dict[str, int] = {}
        self._noted = noted
        self._done_bytes = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Report and obey for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll())
            tasks.create_task(self._report())
            tasks.create_task(self._copy())

    async def _poll(self) -> None:
        while True:
            wait_seconds = POLL_WAIT_SECONDS if self._talk.desired is not None else 0.0
            await self._exchange(self._talk.poll(self._observed(), wait_seconds))
            if not self._talk.is_understood:
                self._changed.set()

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            statement = self._talk.report(self._observed())
            if statement is not None:
                await self._exchange(statement)
            await asyncio.sleep(REPORT_PAUSE_SECONDS)

    async def _copy(self) -> None:
        """Let the groups that copy come on, over and over."""
        while True:
            await asyncio.sleep(REPORT_PAUSE_SECONDS)
            self._done_bytes = (self._done_bytes + PROGRESS_BYTES) % GIB
            desired = self._talk.desired
            for spec in desired.workers if desired is not None else ():
                if spec.id in self._copying and spec.role is Role.PRIMARY:
                    self._workers[spec.id] = self._observe(spec)
                    self._changed.set()

    def _observed(self) -> Observed:
        desired = self._talk.desired
        gone = desired.deleted_workers if desired is not None else []
        return Observed(POOL, self._volumes.values(), self._workers.values(), gone)

    async def _exchange(self, statement: Statement) -> None:
        answer = await self._http.post(
            f"/internal/v1/nodes/{self._site}/sync", json=to_wire(statement.report), headers=self._token
        )
        answer.raise_for_status()
        if self._talk.take(statement, from_wire(NodeDesired, answer.json())):
            self._obey()
            self._changed.set()

    def _obey(self) -> None:
        desired = self._talk.desired
        assert desired is not None
        listed = {volume.id for volume in desired.volumes}
        for volume in desired.volumes:
            if volume.deleted:
                self._volumes[volume.id] = ObservedVolume(volume.id, "deleted")
            elif volume.id not in self._volumes:
                self._volumes[volume.id] = observed_volume(volume.id)
        for volume_id in [volume_id for volume_id in self._volumes if volume_id not in listed]:
            del self._volumes[volume_id]
        for spec in desired.workers:
            if self._in_force.get(spec.id) != spec.version:
                self._in_force[spec.id] = spec.version
                self._workers[spec.id] = self._observe(spec)
                if spec.role is Role.PRIMARY:
                    self._noted.note(spec)

    def _observe(self, spec: WorkerSpec) -> ObservedWorker:
        mode = Mode.FOLLOWING
        if spec.role is Role.PRIMARY:
            copies = spec.id in self._copying
            runs = Mode.COPYING if copies else Mode.IN_SYNC
            mode = Mode.PAUSED if spec.replication is Replication.PAUSED else runs
        volume_ids = [member.volume_id for member in spec.members]
        done_bytes = self._done_bytes if mode is Mode.COPYING else GIB
        return observed_worker(spec.id, spec.role, volume_ids, spec.version, mode, done_bytes)


async def main(url: str, data_dir: Path) -> None:
    """Run the nodes of all sites; say so on standard output once the controller knows them."""
    population: Population = pickle.loads((data_dir / "population").read_bytes())
    token = (data_dir / "secrets" / "node-token").read_text().strip()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as http:
        noted = InForceWriter(data_dir)
        nodes = [Node(http, site, population, token, noted) for site in SITES]
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        while not all(node._talk.is_understood for node in nodes):
            await asyncio.wait(tasks, timeout=REPORT_PAUSE_SECONDS)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
