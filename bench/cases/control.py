"""How fast the controller answers with many objects: 1,000 groups, 10,000 pairs and 20,000 volumes on SQLite.

Ten groups copy all the while, and both sites' nodes report that, as real ones would. `--size` scales the number of
groups.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.control_plane import State, populate, start_controller
from bench.errors import BenchError
from bench.in_force import InForceReader
from bench.results import CaseResult, Limit, Sample, Series
from bench.running import FAILURES, Context
from twinsite.client import AsyncClient, Client, Cloud
from twinsite.client.pairs import PAIRS
from twinsite.client.session import exchange
from twinsite.control.settings import ControllerSettings
from twinsite.core.limits import GIB
from twinsite.messages import Replication

GROUPS_PER_GIB = 1000
GROUPS_MIN = 8
PAIRS_PER_GROUP = 10
COPYING_MAX, PAUSED_MAX = 10, 300
SHOWS = 100
PAGES = 5
SYNCS = 20
FEW_GROUPS = 10
HEARD_GROUPS = 7
"""So many groups are stopped and synchronized in a round, one after the other."""
CREATED_MAX = 200
CLIENTS = 50
QUOTA = 1_000_000
SHOW_MS_MAX, PAGE_MS_MAX, SYNC_MS_MAX = 10.0, 150.0, 50.0
NODES_SECONDS_MAX = 120.0
FROM_CALL = "from_call_ms"
SETTLED_SECONDS_MAX = 60.0


def control(context: Context) -> CaseResult:
    """Measure calls of one client, actions until the worker obeys, new volumes, and 50 clients at once."""
    result = CaseResult("control", "control plane, many objects")
    shows = Series("show", "show a pair or a group, one client", "ms")
    pages = Series("page", "page of 1,000 pairs, one client", "ms")
    syncs = Series("sync", "os-sync while ten groups copy, one client", "ms")
    created = Series("create", "create a volume until it is available, one client", "ms")
    mixed = Series("mixed", f"mixed calls of {CLIENTS} clients", "calls/s")
    states = _states(context)
    heard_few = Series("heard-few", f"action to worker, {FEW_GROUPS} groups", "ms")
    heard = Series("heard", f"action to worker, {len(states)} groups", "ms")
    with ExitStack() as stack:
        try:
            few = _Bench(stack, context, _states_of(FEW_GROUPS))
            for number in range(context.options.rounds):
                context.say(f"{result.title}, {FEW_GROUPS} groups, round {number + 1} of {context.options.rounds}")
                heard_few.samples.append(few.heard())
        except FAILURES as error:
            result.problems.append(f"control with {FEW_GROUPS} groups: {error}")
    with ExitStack() as stack:
        try:
            bench = _Bench(stack, context, states)
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                shows.samples.append(bench.show())
                pages.samples.append(bench.page())
                syncs.samples.append(bench.sync())
                heard.samples.append(bench.heard())
                created.samples.append(bench.create())
                mixed.samples.append(asyncio.run(bench.mix(context.options.seconds)))
        except FAILURES as error:
            result.problems.append(f"control: {error}")
    from_call = [series.of_detail(FROM_CALL, "from the call", "ms") for series in (heard_few, heard)]
    result.series = [shows, pages, syncs, heard_few, heard, *from_call, created, mixed]
    result.limits = [
        Limit("show, median of a round", shows, SHOW_MS_MAX),
        Limit("page of 1,000 pairs, median of a round", pages, PAGE_MS_MAX),
        Limit("founding action, median of a round", syncs, SYNC_MS_MAX),
        *(Limit(series.label, series, None) for series in (heard_few, heard, *from_call)),
        Limit("new volume, until it is available", created, None),
        Limit(f"{CLIENTS} clients", mixed, None),
    ]
    return result


class _Bench:
    """A controller with its nodes and a client."""

    def __init__(self, stack: ExitStack, context: Context, states: list[State]) -> None:
        context.say("control plane: filling a database")
        directory = context.workspace.new_directory(stack)
        self._choose = random.Random(context.options.seed)
        self._population = asyncio.run(
            populate(ControllerSettings(data_dir=directory, quota_volumes=QUOTA), states, PAIRS_PER_GROUP)
        )
        (directory / "population").write_bytes(pickle.dumps(self._population))
        (directory / "twinsite.toml").write_text(f"quota_volumes = {QUOTA}\n")
        context.say("control plane: starting the controller and the nodes")
        url = start_controller(stack, directory)
        _start_nodes(stack, url, directory)
        self._in_force = stack.enter_context(InForceReader(directory))
        password = (directory / "secrets" / "admin-password").read_text().strip()
        self._cloud = Cloud(f"{url}/identity/v3", "admin", password, "admin", "the bench")
        self._client = stack.enter_context(Client(self._cloud))
        self._groups = list(self._population.states)
        self._pairs = [pair_id for pairs in self._population.pairs.values() for pair_id in pairs]
        self._paused: Iterator[str] = itertools.cycle(self._population.groups(State.PAUSED))

    def show(self) -> Sample:
        """Show pairs and groups in turn."""
        shows: list[Callable[[], object]] = [
            lambda: self._client.pair(self._choose.choice(self._pairs)),
            lambda: self._client.group(self._choose.choice(self._groups)),
        ]
        return _median_ms(SHOWS, lambda number: shows[number % 2]())

    def page(self) -> Sample:
        """List pairs as the interface's reference has it: one page."""
        # Past the models, which the client makes of what it was answered.
        return _median_ms(PAGES, lambda _: self._client.run(exchange(self._client.session, "GET", PAIRS)))

    def sync(self) -> Sample:
        """Synchronize groups that are paused."""
        group_ids = [next(self._paused) for _ in range(SYNCS)]
        for group_id in set(group_ids):
            self._client.stop_group(group_id)
        return _median_ms(SYNCS, lambda number: self._client.sync_group(group_ids[number]))

    def heard(self) -> Sample:
        """Change groups; return the median time from the API's answer until the primary's worker has it in force."""
        calls = {Replication.RUNNING: self._client.sync_group, Replication.PAUSED: self._client.stop_group}
        from_answer, from_call = [], []
        for group_id in itertools.islice(self._paused, HEARD_GROUPS):
            self._client.stop_group(group_id)
            for wanted in (Replication.RUNNING, Replication.PAUSED, Replication.RUNNING):
                called = time.perf_counter()
                calls[wanted](group_id)
                answered = time.perf_counter()
                at = self._in_force.wait(group_id, wanted, called)
                from_answer.append((at - answered) * 1000)
                from_call.append((at - called) * 1000)
        details = {FROM_CALL: statistics.median(from_call), "worst": max(from_answer), "calls": len(from_answer)}
        return Sample(statistics.median(from_answer), details=details)

    def create(self) -> Sample:
        """Create volumes one after the other; return the time for each, the wait for the last one included."""
        count = min(CREATED_MAX, len(self._groups))
        begun = time.perf_counter()
        made = [self._client.create_volume(size_gib=1, zone=zone).id for zone in ("az1", "az2") * (count // 2)]
        self._client.wait_for_volume(made[-1], SETTLED_SECONDS_MAX)
        seconds = time.perf_counter() - begun
        for volume_id in made:
            self._client.wait_for_volume(volume_id, SETTLED_SECONDS_MAX)
            self._client.delete_volume(volume_id)
        return Sample(seconds * 1000 / count, details={"volumes": count})

    async def mix(self, seconds: float) -> Sample:
        """Let many clients read and write; each changes groups and volumes of its own. Any refusal is an error."""
        own = [self._population.groups(State.ACTIVE)[number::CLIENTS] for number in range(CLIENTS)]
        async with AsyncClient(self._cloud) as client:
            volumes = [await client.create_volume(size_gib=1, zone="az1") for _ in own]
            await asyncio.gather(*(client.wait_for_volume(volume.id, SETTLED_SECONDS_MAX) for volume in volumes))
            begun = time.perf_counter()
            counts = await asyncio.gather(
                *(
                    self._work(client, volume.id, groups, begun + seconds)
                    for volume, groups in zip(volumes, own, strict=True)
                )
            )
            taken = time.perf_counter() - begun
            await asyncio.gather(*(client.delete_volume(volume.id) for volume in volumes))
        return Sample(sum(counts) / taken, details={"calls": sum(counts)})

    async def _work(self, client: AsyncClient, volume_id: str, own_groups: list[str], until: float) -> int:
        choose = random.Random(self._choose.random())
        count = 0
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: client.pair(choose.choice(self._pairs)),
            lambda: client.group(choose.choice(self._groups)),
            lambda: client.volume(volume_id),
            lambda: client.groups(name=f"group-{choose.randrange(len(self._groups))}"),
        ]
        while count == 0 or time.perf_counter() < until:
            for _ in range(8):
                await choose.choice(reads)()
            await client.update_volume(volume_id, name=f"name-{count}")
            if own_groups:
                group_id = choose.choice(own_groups)
                await client.stop_group(group_id)
                await client.sync_group(group_id)
            count += 11 if own_groups else 9
        return count


def _states(context: Context) -> list[State]:
    return _states_of(max(GROUPS_MIN, context.options.size_bytes * GROUPS_PER_GIB // GIB))


def _states_of(count: int) -> list[State]:
    copying, paused = min(COPYING_MAX, count // 4), min(PAUSED_MAX, count // 4)
    return [State.COPYING] * copying + [State.PAUSED] * paused + [State.ACTIVE] * (count - copying - paused)


def _start_nodes(stack: ExitStack, url: str, directory: Path) -> None:
    log = stack.enter_context((directory / "nodes.log").open("w"))
    command = [sys.executable, "-m", "bench.control_nodes", url, str(directory)]
    nodes = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=dict(os.environ))
    stack.callback(nodes.wait, 10)
    stack.callback(nodes.terminate)
    assert nodes.stdout is not None
    stack.callback(nodes.stdout.close)
    os.set_blocking(nodes.stdout.fileno(), False)
    deadline = time.monotonic() + NODES_SECONDS_MAX
    while not nodes.stdout.readline():
        if nodes.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"the nodes did not come: {(directory / 'nodes.log').read_text()[-500:]}")
        time.sleep(0.05)


def _median_ms(count: int, call: Callable[[int], object]) -> Sample:
    times_ms = []
    for number in range(count):
        begun = time.perf_counter()
        call(number)
        times_ms.append((time.perf_counter() - begun) * 1000)
    return Sample(statistics.median(times_ms), details={"worst": max(times_ms), "calls": count})
