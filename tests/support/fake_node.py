"""A node without disks: a real HTTP client of the controller's internal endpoint, whose workers a test plays.

`step` is one report and one obeyed answer; `run` does that for ever, with the long poll of a real node.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from twinsite.messages import (
    Failure,
    MemberStatus,
    Mode,
    NodeDesired,
    NodeReport,
    ObservedVolume,
    ObservedWorker,
    PoolReport,
    Replication,
    Role,
    WorkerSpec,
    WorkerStatus,
    from_wire,
    to_wire,
)
from twinsite.node.conversation import Conversation, Observed

STEPS_MAX = 50
WAIT_SECONDS = 10.0

_NEEDS = {Mode.IN_SYNC: "in_sync", Mode.PAUSED: "stale", Mode.CONNECTING: "stale"}
"""What the arbiter must have recorded of the secondary before a primary may be in a mode."""

Change = Callable[[WorkerStatus], WorkerStatus]


class FakeNode:
    """Obeys at once: a volume is ready and has the room it should, a worker has its spec in force, a primary in sync.

    `primary_mode` is what a running primary reports; `changes` alters the statuses of workers by id; `volume_failures`
    and `worker_failures` break things. Where a real primary asks the arbiter, `step` does: before it says that it is
    in sync, and before it goes on alone; without the grant it holds.
    """

    def __init__(self, http: httpx.AsyncClient, site: str, token: str) -> None:
        """Speak for `site` over `http`."""
        self._http = http
        self.site = site
        self._headers = {"X-Twinsite-Node-Token": token}
        self._talk = Conversation(site, f"fake-{site}")
        self.answer: NodeDesired | None = None  # The last one, as it came.
        self.volumes: dict[str, ObservedVolume] = {}
        self.workers: dict[str, ObservedWorker] = {}
        self.primary_mode = Mode.IN_SYNC
        self.hands_over = True
        self.secondaries_consistent = True
        self.changes: dict[str, Change] = {}
        self.volume_failures: dict[str, Failure] = {}
        self.room_failures: dict[str, Failure] = {}  # Why a volume cannot be extended.
        self.worker_failures: dict[str, Failure] = {}
        self.obeys_volumes = True
        self.obeys_workers = True
        self.stream_port = 7001
        self.pid = 1000

    def go_on_from(self, other: FakeNode) -> None:
        """Be where another node of the same site was."""
        self._talk = copy.deepcopy(other._talk)
        self.volumes, self.workers = dict(other.volumes), dict(other.workers)

    @property
    def desired(self) -> NodeDesired | None:
        """Return everything that the site should be, as far as was heard."""
        return self._talk.desired

    @property
    def generation(self) -> int:
        """Return the generation of that."""
        return self._talk.desired.generation if self._talk.desired is not None else 0

    def spec(self, worker_id: str) -> WorkerSpec:
        """Return what the controller wants of a worker, as last heard."""
        assert self.desired is not None
        return next(spec for spec in self.desired.workers if spec.id == worker_id)

    def pretend_to_have_seen(self, generation: int) -> None:
        """Be as a node that has heard of another generation."""
        assert self._talk.desired is not None
        self._talk.desired = dataclasses.replace(self._talk.desired, generation=generation)

    def report(self) -> NodeReport:
        """Return the first report of a node that has heard nothing yet."""
        return Conversation(self.site, f"fake-{self.site}").poll(self._observed(), 0.0).report

    async def ask_for_everything(self) -> NodeDesired:
        """Return what a node is told that has heard nothing yet, and remember nothing of it."""
        return await self._send(dataclasses.replace(self.report(), basis="nothing that was ever said"))

    async def post(self, wait_seconds: float = 0.0) -> NodeDesired:
        """Report what is new, and return everything that the site should be."""
        await self._exchange(wait_seconds)
        if not self._talk.is_understood:
            await self._exchange(0.0)
        assert self.desired is not None
        return self.desired

    async def _exchange(self, wait_seconds: float) -> None:
        observed = self._observed()
        statement = self._talk.report(observed) or self._talk.poll(observed, wait_seconds)
        self.answer = await self._send(dataclasses.replace(statement.report, wait_seconds=wait_seconds))
        self._talk.take(statement, self.answer)

    def _observed(self) -> Observed:
        return Observed(
            PoolReport(total_bytes=10**12, free_bytes=10**11),
            self.volumes.values(),
            self.workers.values(),
            list(self.desired.deleted_workers) if self.desired is not None else [],
        )

    async def _send(self, report: NodeReport) -> NodeDesired:
        answer = await self._http.post(
            f"/internal/v1/nodes/{self.site}/sync",
            json=to_wire(report),
            headers=self._headers,
            timeout=report.wait_seconds + 10,
        )
        answer.raise_for_status()
        return from_wire(NodeDesired, answer.json())

    async def step(self, wait_seconds: float = 0.0) -> bool:
        """Report and obey; say whether that changed what the node observes."""
        before = (dict(self.volumes), dict(self.workers))
        desired = await self.post(wait_seconds)
        self.obey(desired)
        for spec in desired.workers:
            await self._ask_arbiter(spec)
        return before != (self.volumes, self.workers)

    async def _ask_arbiter(self, spec: WorkerSpec) -> None:
        """Ask for what the worker's mode needs; without it, hold."""
        worker = self.workers.get(spec.id)
        status = worker.status if worker is not None and worker.alive else None
        if status is None or status.spec_version != spec.version or status.role is not Role.PRIMARY:
            return
        wanted = _NEEDS.get(status.mode)
        if wanted is None:
            return
        row = (await self.ask_arbiter(spec, "read"))["row"]
        if row["secondary"] != wanted or row["term"] != spec.term:
            call = "secondary_in_sync" if wanted == "in_sync" else "suspend_secondary"
            answer = await self.ask_arbiter(spec, call, row["version"])
            if not answer["granted"]:
                replaced = answer["reason"] in ("other_term", "not_primary")
                self.alter(spec.id, mode=Mode.REPLACED if replaced else Mode.HOLDING)

    async def ask_arbiter(self, spec: WorkerSpec, call: str, version: int = 0) -> dict[str, Any]:
        """Ask as the spec's worker."""
        answer = await self._http.post(
            f"/internal/v1/groups/{spec.id}/arbiter",
            json={"call": call, "site": spec.site, "term": spec.term, "version": version},
            headers={"X-Twinsite-Worker-Token": spec.arbiter_token},
        )
        answer.raise_for_status()
        decoded: dict[str, Any] = answer.json()
        return decoded

    def obey(self, desired: NodeDesired) -> None:
        """Make the site what the controller wants, as far as the test lets it."""
        if self.obeys_volumes:
            self.volumes = {}
            for volume in desired.volumes:
                failure = self.volume_failures.get(volume.id)
                state = "deleted" if volume.deleted else "ready" if failure is None else "error"
                uris = [f"nbd+unix:///{volume.id}?socket=/run/{volume.id}.sock", f"nbd://{self.site}:10809/{volume.id}"]
                room_bytes = max(volume.size_bytes, volume.room_bytes)
                self.volumes[volume.id] = ObservedVolume(
                    volume.id, state, uris if state == "ready" else [], failure, store_bytes=room_bytes
                )
                refusal = self.room_failures.get(volume.id)
                if refusal is not None and volume.room_bytes > volume.size_bytes:
                    self.volumes[volume.id] = ObservedVolume(
                        volume.id, "ready", uris, refusal, volume.size_bytes, volume.room_bytes
                    )
        if self.obeys_workers:
            self.workers = {spec.id: self._worker(spec) for spec in desired.workers}

    def _worker(self, spec: WorkerSpec) -> ObservedWorker:
        failure = self.worker_failures.get(spec.id)
        if failure is not None:
            return ObservedWorker(spec.id, alive=False, failure=failure)
        members = [
            MemberStatus(
                member.volume_id,
                serving=spec.role is not Role.SECONDARY,
                resync_bytes_total=100,
                size_bytes=member.size_bytes,
            )
            for member in spec.members
        ]
        status = WorkerStatus(
            id=spec.id,
            spec_version=spec.version,
            role=spec.role,
            mode=self._mode(spec),
            term=spec.term,
            members=members,
            stream_endpoint=f"127.0.0.1:{self.stream_port}" if spec.role is Role.SECONDARY else None,
            consistent=self._is_consistent(spec),
        )
        change = self.changes.get(spec.id)
        return ObservedWorker(spec.id, alive=True, pid=self.pid, status=change(status) if change else status)

    def _mode(self, spec: WorkerSpec) -> Mode:
        if spec.role is Role.SOLO:
            return Mode.SOLO
        if spec.role is Role.SECONDARY:
            return Mode.FOLLOWING
        if spec.replication is Replication.PAUSED:
            return Mode.PAUSED
        if spec.replication is Replication.HANDOVER:
            return Mode.HANDED_OVER if self.hands_over else Mode.IN_SYNC
        return self.primary_mode if spec.peer_endpoint is not None else Mode.CONNECTING

    def _is_consistent(self, spec: WorkerSpec) -> bool:
        if spec.role is Role.SECONDARY:
            return self.secondaries_consistent
        return spec.role is Role.PRIMARY and self._was_in_sync(spec.id)

    def _was_in_sync(self, worker_id: str) -> bool:
        last = self.workers.get(worker_id)
        return (
            last is not None
            and last.status is not None
            and last.status.role is Role.PRIMARY
            and (last.status.mode is Mode.IN_SYNC or last.status.consistent)
        )

    def alter(self, worker_id: str, **values: Any) -> None:
        """Change what a worker reports, until it is obeyed anew."""
        worker = self.workers[worker_id]
        assert worker.status is not None
        self.workers[worker_id] = dataclasses.replace(worker, status=dataclasses.replace(worker.status, **values))

    async def run(self) -> None:
        """Report and obey until cancelled, as a real node does."""
        while True:
            changed = await self.step(WAIT_SECONDS)
            while changed:
                changed = await self.step()


async def settle(*nodes: FakeNode) -> None:
    """Step the nodes until none of them changes any more."""
    for _ in range(STEPS_MAX):
        changes = [await node.step() for node in nodes]
        if not any(changes):
            return
    raise AssertionError("the nodes and the controller never agree")


@contextlib.asynccontextmanager
async def running(*nodes: FakeNode) -> AsyncIterator[None]:
    """Run the nodes in the background; both have reported when this begins."""
    await settle(*nodes)
    tasks = [asyncio.create_task(node.run()) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
