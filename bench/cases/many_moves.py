"""Many groups fail over at once: a whole installation with real nodes, workers and disks, through the HTTP API.

Each group has one disk and two workers, and `--size` scales the number of groups. A group has moved when a host reads
its disk at the other site.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.errors import BenchError
from bench.installed import POLL_SECONDS, Group, read_once, start_installation, uris
from bench.results import CaseResult, Limit, Sample, Series
from bench.running import FAILURES, Context
from twinsite.core.limits import MIB
from twinsite.errors import StorageFault

GROUPS_MAX = 100
GROUPS_MIN = 2
SIZE_BYTES_PER_GROUP = 8 * MIB
"""A run with this `--size` has one group, and one with 800 MiB has all."""
MOVED_SECONDS_MAX = 120.0
"""Longest wait until all have moved."""
HEARD_SECONDS_MAX = 30.0
P50, P99 = "p50_seconds", "p99_seconds"


def many_moves(context: Context) -> CaseResult:
    """Measure the time from an action to the worker of one of many groups, and failovers of all of them at once."""
    count = max(GROUPS_MIN, min(GROUPS_MAX, context.options.size_bytes // SIZE_BYTES_PER_GROUP))
    result = CaseResult("many-moves", f"{count} groups of one disk, real nodes and workers")
    heard = Series("action-heard", "action to worker, one group", "ms")
    moved = Series("failover-all", f"{count} failovers at once, until the last disk is read", "s")
    with ExitStack() as stack:
        groups: list[Group] = []
        try:
            installation = start_installation(stack, context, result.title)
            for number in range(count):
                context.say(f"{result.title}: making group {number + 1} of {count}")
                groups.append(Group(installation, 1))
                groups[-1].act("sync")
            for group in groups:
                group.wait_active()
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                heard.samples.append(_action_heard(groups[number % count]))
                moved.samples.append(_fail_over_all(groups))
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}: moving back")
                _move_back(groups)
        except FAILURES as error:
            result.problems.append(f"{len(groups)} of {count} groups were made: {error}")
    median, slowest = moved.of_detail(P50, "median group", "s"), moved.of_detail(P99, "99 of 100 groups", "s")
    result.series = [heard, moved, median, slowest]
    result.limits = [
        Limit("action to worker, one group", heard, None),
        Limit(f"failover of {count} groups, until all have moved", moved, None),
        Limit("each from its own request, median group", median, None),
        Limit("each from its own request, 99 of 100 groups", slowest, None),
    ]
    return result


def _action_heard(group: Group) -> Sample:
    """Stop a group; return the time from the API's answer until its worker has the newer spec in force."""
    version = group.worker_status("az1").spec_version
    begun = time.perf_counter()
    group.act("stop")
    answered = time.perf_counter()
    while group.worker_status("az1").spec_version <= version:
        if time.perf_counter() > answered + HEARD_SECONDS_MAX:
            raise BenchError("the worker was not told of the action")
        time.sleep(POLL_SECONDS)
    heard = time.perf_counter()
    group.synchronize()
    return Sample((heard - answered) * 1000, details={"answered_ms": (answered - begun) * 1000})


def _fail_over_all(groups: Sequence[Group]) -> Sample:
    """Ask for every failover at the same time, and read each disk at the other site as soon as that is possible."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(groups)) as clients:
        asking = [clients.submit(_ask_failover, group) for group in groups]
        moved = _first_reads(groups, begun + MOVED_SECONDS_MAX)
        asked = [done.result() for done in asking]
    seconds = sorted(at - request for (request, _), at in zip(asked, moved, strict=True))
    for group in groups:
        group.wait_shown("a group that has failed over", status="failovered")
    return Sample(
        max(moved) - begun,
        details={
            P50: statistics.median(seconds),
            P99: seconds[math.ceil(len(seconds) * 0.99) - 1],
            "answered_seconds": max(answered for _, answered in asked) - begun,
            "groups": len(groups),
        },
    )


def _ask_failover(group: Group) -> tuple[float, float]:
    """Ask for a failover; return when that was, and when it was answered."""
    begun = time.perf_counter()
    group.act("failover")
    return begun, time.perf_counter()


def _first_reads(groups: Sequence[Group], deadline: float) -> list[float]:
    """Return when each group's disk was first read at the other site. Raises `BenchError` past the deadline."""
    moved: dict[int, float] = {}
    places = {number: uris(group, "az2")[0] for number, group in enumerate(groups)}
    while waiting := [number for number in places if number not in moved]:
        for number in waiting:
            try:
                read_once(places[number])
            except StorageFault:
                continue
            moved[number] = time.perf_counter()
        if time.perf_counter() > deadline:
            raise BenchError(f"{len(groups) - len(moved)} of {len(groups)} groups are not served at the other site")
        time.sleep(POLL_SECONDS)
    return [moved[number] for number in range(len(groups))]


def _move_back(groups: Sequence[Group]) -> None:
    """Protect every group again, and let its production return, so that the next round finds what this one found."""
    for group in groups:
        group.act("reprotect")
    _wait_each(groups, lambda group: group.wait_shown("a protected group", status="available"))
    for group in groups:
        group.act("reverse")
    _wait_each(groups, lambda group: group.wait_shown("production at home", status="available", priority_station="az1"))


def _wait_each(groups: Sequence[Group], wait_shown: Callable[[Group], object]) -> None:
    for group in groups:
        group.wait_active()
        wait_shown(group)
