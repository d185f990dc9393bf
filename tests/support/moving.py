"""What the controller does to move a group of two worker processes between its sites: one step each."""

from __future__ import annotations

from tests.support.worker_process import WorkerPair
from twinsite.messages import Mode, Replication, Role, WorkerSpec, WorkerStatus

SITES = ("az1", "az2")


def other(site: str) -> str:
    """The site that this one is not."""
    return SITES[1 - SITES.index(site)]


def lead(
    pair: WorkerPair, site: str, endpoint: str | None = None, replication: Replication = Replication.RUNNING
) -> WorkerSpec:
    """Tell a site's worker to be primary at the arbiter's term."""
    spec = pair.spec(Role.PRIMARY, replication, endpoint, site)
    pair.worker(site).send(spec)
    return spec


def follow(pair: WorkerPair, site: str) -> str:
    """Tell a site's worker to be secondary at the arbiter's term; return where it listens."""
    spec = pair.spec(Role.SECONDARY, Replication.RUNNING, site=site)
    pair.worker(site).send(spec)
    status = pair.worker(site).wait(lambda s: s.spec_version == spec.version, "listening")
    assert status.stream_endpoint is not None
    return status.stream_endpoint


def wait_serving(pair: WorkerPair, site: str) -> WorkerStatus:
    """Wait until hosts can use the volumes at a site."""
    return pair.worker(site).wait(lambda s: all(member.serving for member in s.members), "serving")


def wait_in_sync(pair: WorkerPair, site: str, spec: WorkerSpec | None = None) -> WorkerStatus:
    """Wait until the primary at a site is in sync, by a spec or by what it was told last."""
    version = (spec or pair.repeat(site)).version
    return pair.worker(site).wait(lambda s: s.mode is Mode.IN_SYNC and s.spec_version >= version, "in sync")


def fail_over(pair: WorkerPair, site: str, *, force: bool = False) -> None:
    """Let the arbiter promote a site, tell its worker, and wait until it serves."""
    pair.arbiter.promote(site, force=force)
    lead(pair, site)
    wait_serving(pair, site)


def reprotect(pair: WorkerPair, site: str) -> WorkerStatus:
    """Let the other site follow the primary at `site`, and wait until they are in sync."""
    spec = lead(pair, site, follow(pair, other(site)))
    return wait_in_sync(pair, site, spec)


def hand_over(pair: WorkerPair, site: str, endpoint: str | None) -> None:
    """Let the primary at `site` take no new write and flush both sides."""
    spec = lead(pair, site, endpoint, Replication.HANDOVER)
    pair.worker(site).wait(lambda s: s.spec_version == spec.version and s.mode is Mode.HANDED_OVER, "handed over")


def switch(pair: WorkerPair, site: str, endpoint: str | None) -> WorkerStatus:
    """Planned switchover from the primary at the other site, which follows `endpoint`, to `site`."""
    hand_over(pair, other(site), endpoint)
    pair.arbiter.switch(site)
    return reprotect(pair, site)
