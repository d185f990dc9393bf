"""What hosts wait for when a group loses its secondary or moves: whole installations, driven through the HTTP API.

One machine holds controller, nodes and workers of both sites, as `twinsite up` starts them. So the times include every
part, and no network.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.errors import BenchError
from bench.installed import POLL_SECONDS, PROBE_BYTES, WAIT_SECONDS_MAX, Group, first_read, installed_group, uris
from bench.results import CaseResult, Limit, Sample, Series
from bench.running import FAILURES, Context
from bench.steady_writer import SteadyWriter
from twinsite.nbd_client import NbdClient

INTERRUPTION_MS_MAX = 200.0
FAILOVER_SECONDS_MAX = 2.0
SWITCHOVER_MS_MAX = 1000.0
GROUP_DISKS = 8
WARM_UP_WRITES = 200


def interruption(context: Context) -> CaseResult:
    """Measure the longest time between two acknowledgements when the secondary is killed, and without that."""
    result = CaseResult("interruption", "secondary killed under writes, QD1")
    broken = Series("gap", "longest gap", "ms")
    undisturbed = Series("undisturbed", "longest gap of as long without", "ms")
    with ExitStack() as stack:
        try:
            group = installed_group(stack, context, 1, result.title)
            disks = group.connect("az1")
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                with SteadyWriter(disks, context.options.seed + number) as host:
                    host.wait_for_more(WARM_UP_WRITES)
                    pid = group.installation.worker_pid("az2", group.id)
                    begun = time.perf_counter()
                    os.kill(pid, signal.SIGKILL)
                    _wait_stale(group)
                    group.wait_active()
                    ended = time.perf_counter()
                    host.wait_for_more(WARM_UP_WRITES)
                    calm = time.perf_counter()
                    time.sleep(ended - begun)
                    calm_end = time.perf_counter()
                    host.wait_for_more(1)
                    broken.samples.append(_milliseconds(host.longest_gap(begun, ended), ended - begun))
                    undisturbed.samples.append(_milliseconds(host.longest_gap(calm, calm_end), calm_end - calm))
        except FAILURES as error:
            result.problems.append(f"interruption: {error}")
    result.series = [broken, undisturbed]
    result.limits = [
        Limit("longest gap until in sync again", broken, INTERRUPTION_MS_MAX),
        Limit("longest gap without a break", undisturbed, None),
    ]
    return result


def moves(context: Context) -> CaseResult:
    """Measure an unforced failover until all disks are read at the other site, and a switchover back under writes."""
    result = CaseResult("moves", f"a group of {GROUP_DISKS} disks moves")
    failover = Series("failover", "production worker killed, failover asked for", "s")
    switchover = Series("switchover", "longest gap in a host's writes", "ms")
    with ExitStack() as stack:
        try:
            group = installed_group(stack, context, GROUP_DISKS, result.title)
            group.connect("az1")
            for number in range(context.options.rounds):
                context.say(f"{result.title}, round {number + 1} of {context.options.rounds}")
                failover.samples.append(_fail_over(group, context.options.seed + number))
                group.act("reprotect")
                group.wait_active()
                group.wait_shown("a protected group", status="available")
                switchover.samples.append(_switch_back(group, context.options.seed + number))
        except FAILURES as error:
            result.problems.append(f"moves: {error}")
    result.series = [failover, switchover]
    result.limits = [
        Limit("unforced failover until all are served", failover, FAILOVER_SECONDS_MAX),
        Limit("switchover, longest gap of a host", switchover, SWITCHOVER_MS_MAX),
    ]
    return result


def _wait_stale(group: Group) -> None:
    """Wait until production has gone on alone, or is in sync again already: the group's own record says either."""
    deadline = time.perf_counter() + WAIT_SECONDS_MAX
    while group.show()["replication_status"] == "active":
        if time.perf_counter() > deadline:
            raise BenchError("nobody noticed that the secondary was killed")
        time.sleep(POLL_SECONDS)


def _fail_over(group: Group, seed: int) -> Sample:
    """Write to every disk, kill the production worker, ask for a failover, and read every disk at the other site."""
    data = random.Random(seed).randbytes(PROBE_BYTES)
    for uri in uris(group, "az1"):
        with NbdClient(uri) as client:
            client.write(0, data)
    os.kill(group.installation.worker_pid("az1", group.id), signal.SIGKILL)
    begun = time.perf_counter()
    group.act("failover")
    answered = time.perf_counter() - begun
    for uri in uris(group, "az2"):
        if first_read(uri, begun + WAIT_SECONDS_MAX) != data:
            raise BenchError(f"{uri} lacks what was acknowledged before the failover")
    seconds = time.perf_counter() - begun
    group.wait_shown("a group that has failed over", status="failovered")
    return Sample(seconds, details={"answered_seconds": answered})


def _switch_back(group: Group, seed: int) -> Sample:
    """Move the group from az2 to az1 while a host writes to its first disk, wherever that is served."""
    hosts: Sequence[str] = [uris(group, site)[0] for site in ("az2", "az1")]
    with SteadyWriter(hosts, seed) as host:
        host.wait_for_more(WARM_UP_WRITES)
        begun = time.perf_counter()
        group.act("reverse")
        group.wait_shown("the group at the other site", status="available", priority_station="az1")
        group.wait_active()
        ended = time.perf_counter()
        host.wait_for_more(1)
        return _milliseconds(host.longest_gap(begun, ended), ended - begun)


def _milliseconds(gap_seconds: float, seconds: float) -> Sample:
    """Return a gap in a host's writes, found in a span of so many seconds."""
    return Sample(gap_seconds * 1000, details={"seconds": seconds})
