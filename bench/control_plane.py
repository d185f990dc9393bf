"""A controller with many objects in its database, as a process.

The rows are written past the API, whose calls would take longer than the measurement. They hold what the API and the
nodes would have left there: most groups in sync, some paused, some copying.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from bench.errors import BenchError
from tests.support.installation import READY_SECONDS_MAX
from twinsite.control.clock import utc_now
from twinsite.control.context import observed_workers
from twinsite.control.controller import Controller
from twinsite.control.lifecycle import chronicle
from twinsite.control.models import ArbiterRow, Base, Group, Pair, Project, Volume, WorkerReport
from twinsite.control.repository import objects
from twinsite.control.settings import ControllerSettings
from twinsite.core.limits import GIB
from twinsite.messages import (
    MemberStatus,
    Mode,
    ObservedVolume,
    ObservedWorker,
    ResyncReport,
    Role,
    WorkerStatus,
    to_wire,
)

SITES = ("az1", "az2")
CHUNK_ROWS = 1000


class State(StrEnum):
    """How a group is in the beginning."""

    ACTIVE = "active"
    PAUSED = "paused"
    COPYING = "copying"


@dataclasses.dataclass(slots=True)
class Population:
    """What was written: the project, and by group its state, its pairs, and its volumes by site."""

    project_id: str
    states: dict[str, State] = dataclasses.field(default_factory=dict)
    pairs: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    volumes: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)

    def groups(self, state: State) -> list[str]:
        """Return the groups in a state."""
        return [group_id for group_id, its_state in self.states.items() if its_state is state]


def observed_volume(volume_id: str) -> ObservedVolume:
    """Return a disk of 1 GiB as its node reports it."""
    uris = [f"nbd+unix:///{volume_id}?socket=/run/{volume_id}.sock"]
    return ObservedVolume(volume_id, "ready", uris, store_bytes=GIB)


MODES = {State.ACTIVE: Mode.IN_SYNC, State.PAUSED: Mode.PAUSED, State.COPYING: Mode.COPYING}


def observed_worker(
    group_id: str, role: Role, volume_ids: Sequence[str], spec_version: int, mode: Mode, done_bytes: int = GIB
) -> ObservedWorker:
    """Return a worker of a group as its node reports it."""
    members = [
        MemberStatus(volume_id, role is Role.PRIMARY, GIB, done_bytes, size_bytes=GIB) for volume_id in volume_ids
    ]
    endpoint = None if role is Role.PRIMARY else "127.0.0.1:7001"
    resync = None
    if mode is Mode.COPYING:
        total, done = GIB * len(members), done_bytes * len(members)
        resync = ResyncReport("full", 0.0, None, total, done, done, 0, 1e9, 1.0)
    consistent = role is Role.SECONDARY or mode is not Mode.COPYING
    status = WorkerStatus(
        group_id, spec_version, role, mode, 1, members, endpoint, consistent=consistent, resync=resync
    )
    return ObservedWorker(group_id, alive=True, pid=1, status=status)


async def populate(settings: ControllerSettings, states: Sequence[State], pairs_per_group: int) -> Population:
    """Fill a new database with a group for each of `states`."""
    controller = await Controller.open(settings)
    try:
        async with controller.context.database.write() as session:
            project_id = (await session.scalars(select(Project.id))).one()
            population = Population(project_id)
            for rows in _chunks(_rows(population, states, pairs_per_group)):
                for model, values in rows.items():
                    await session.execute(insert(model), values)
        async with controller.context.database.write() as session:
            groups = await objects.every_group(session)
            reports = await observed_workers(session, [group.id for group in groups])
            connected = frozenset(SITES)
            for group in groups:
                health = controller.context.health(group, reports, connected)
                group.recorded_state = chronicle.state_of(group, health, connected)
    finally:
        await controller.close()
    return population


_REPLICATION_STATUS = {State.ACTIVE: "active", State.PAUSED: "active-stopped", State.COPYING: "copying"}


def _rows(
    population: Population, states: Sequence[State], pairs_per_group: int
) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    begun = utc_now() - datetime.timedelta(days=1)
    for number, state in enumerate(states):
        now = begun + datetime.timedelta(seconds=number)
        group_id = str(uuid.uuid4())
        pair_ids = population.pairs[group_id] = [str(uuid.uuid4()) for _ in range(pairs_per_group)]
        members: dict[str, list[str]] = {site: [] for site in SITES}
        population.states[group_id], population.volumes[group_id] = state, members
        common = {"project_id": population.project_id, "created_at": now, "updated_at": None, "description": None}
        yield (
            Group,
            {
                **common,
                "id": group_id,
                "name": f"group-{number}",
                "priority_station": "az1",
                "secondary_station": "az2",
                "replication_model": "hypermetro",
                "status": "available",
                "replication": "running",
                "replication_status": "active",
                "stream_key": secrets.token_hex(32),
                "peer_endpoint": "127.0.0.1:7001",
                "next_member_index": pairs_per_group,
                "loss_acceptances": 0,
                "version": 1,
                "spec_version": 3,
                "wish_version": 2,
            },
        )
        yield (
            ArbiterRow,
            {
                "group_id": group_id,
                "term": 1,
                "primary_site": "az1",
                "secondary": "in_sync",
                "stale_since": None,
                "version": 2,
            },
        )
        for index, pair_id in enumerate(pair_ids):
            for site in SITES:
                volume_id = str(uuid.uuid4())
                members[site].append(volume_id)
                yield (
                    Volume,
                    {
                        **common,
                        "id": volume_id,
                        "user_id": "bench",
                        "name": f"disk-{number}-{index}-{site}",
                        "size_gib": 1,
                        "is_grown": False,
                        "site": site,
                        "volume_type": "SSD",
                        "multiattach": False,
                        "user_metadata": {},
                        "status": "available",
                        "node_state": "ready",
                        "nbd_uris": observed_volume(volume_id).nbd_uris,
                        "store_bytes": GIB,
                        "spec_version": 1,
                    },
                )
            yield (
                Pair,
                {
                    **common,
                    "id": pair_id,
                    "name": f"pair-{number}-{index}",
                    "production_volume_id": members["az1"][-1],
                    "dr_volume_id": members["az2"][-1],
                    "production_first": True,
                    "priority_station": "az1",
                    "replication_model": "hypermetro",
                    "status": "available",
                    "group_id": group_id,
                    "member_index": index,
                },
            )
        for site, role in (("az1", Role.PRIMARY), ("az2", Role.SECONDARY)):
            mode = MODES[state] if role is Role.PRIMARY else Mode.FOLLOWING
            report = to_wire(observed_worker(group_id, role, members[site], 3, mode))
            yield WorkerReport, {"site": site, "worker_id": group_id, "report": report}


def _chunks(
    rows: Iterator[tuple[type[Base], dict[str, Any]]],
) -> Iterator[dict[type[Base], list[dict[str, Any]]]]:
    """Return the rows in chunks, by table, in an order that foreign keys allow."""
    chunk: dict[type[Base], list[dict[str, Any]]] = {
        model: [] for model in (Group, ArbiterRow, Volume, Pair, WorkerReport)
    }
    for model, values in rows:
        chunk[model].append(values)
        if model is WorkerReport and sum(map(len, chunk.values())) >= CHUNK_ROWS:
            yield {key: value for key, value in chunk.items() if value}
            for value in chunk.values():
                value.clear()
    yield {key: value for key, value in chunk.items() if value}


def start_controller(stack: ExitStack, data_dir: Path) -> str:
    """Start a controller on a directory, until the stack ends; return its address. Raises `BenchError`."""
    command = [sys.executable, "-m", "twinsite.cli.services", "controller", "--data", str(data_dir), "--port", "0"]
    log = stack.enter_context((data_dir / "controller.log").open("w+"))
    process = subprocess.Popen([*command, "--log-json"], stdout=log, stderr=log)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        for line in (data_dir / "controller.log").read_text().splitlines():
            if '"controller is ready"' in line:
                return f"http://127.0.0.1:{json.loads(line)['port']}"
        time.sleep(0.05)
    raise BenchError(f"the controller did not start: {(data_dir / 'controller.log').read_text()[-500:]}")
