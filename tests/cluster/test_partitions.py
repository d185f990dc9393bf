"""Both sites and the controller in network namespaces of their own, and every path between them cut, thinned or slowed.

A host with writes that depend on each other works at the production site all the while. After each cut the group finds
its way back by itself, and nothing that was answered is missing anywhere it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.api_group import Group
from tests.support.dependent_writer import DependentWriter
from tests.support.installation import wait_for
from tests.support.namespaces import Network
from tests.support.parts import CONTROLLER, PLACES, Parts
from tests.support.stores import pattern
from twinsite.core.limits import MIB
from twinsite.errors import StorageFault
from twinsite.messages import Mode, Role
from twinsite.nbd_client import NbdClient

PATIENCE_SECONDS = 180.0
"""A host waits through a cut, a failover and the end of the cut."""
OUT, BACK = ("az1", "az2"), ("az2", "az1")
# The shipped settings notice a silent node after 12 seconds; a test need not wait that long.
QUICK_NOTICE = {"TWINSITE_NODE_SILENCE_SECONDS": "4", "TWINSITE_PRESENCE_SECONDS": "2"}


@pytest.fixture(name="parts", scope="module")
def fixture_parts() -> Iterator[Parts]:
    """One installation, spread over three places, for the tests of this file; each makes its own group."""
    with ExitStack() as stack:
        parts = Parts(stack, stack.enter_context(Network(PLACES)))
        parts.start_controller(**QUICK_NOTICE)
        for site in ("az1", "az2"):
            parts.start_node(site)
        yield parts


@pytest.fixture(name="network")
def fixture_network(parts: Parts) -> Iterator[Network]:
    assert parts.network is not None
    yield parts.network
    parts.network.heal()


@pytest.fixture(name="group")
def fixture_group(parts: Parts, network: Network) -> Group:
    parts.installation.wait_connected()
    group = Group(parts.installation, 2)
    group.synchronize()
    return group


@contextmanager
def host_at(group: Group) -> Iterator[DependentWriter]:
    """A host at az1 that is told no error; at the end the group is active again, and its twins equal."""
    host = DependentWriter(patience_seconds=PATIENCE_SECONDS)
    host.start(group.connect("az1"))
    host.wait_for_more(20)
    yield host
    group.wait_shown("an active group without a fault", replication_status="active", fault_level="0")
    host.wait_for_more(20)
    host.stop()
    assert host.answered == host.tried, "the host was told an error"
    group.assert_twins_equal()


def wait_alone(group: Group) -> None:
    """Wait until production goes on alone, and check what an operator is told then."""
    shown = group.wait_shown("a group without its DR side", replication_status="inactive", fault_level="5")
    assert shown["failure_detail"].startswith("37100043: "), shown["failure_detail"]
    assert shown["twinsite"]["secondary"] == "stale"
    assert "stale" in shown["twinsite"]["failover"]["reason"]
    with pytest.raises(AssertionError, match=r"400 .* is stale: a failover would lose all writes since"):
        group.act("failover")


# The link between the sites


@pytest.mark.parametrize("paths", [[OUT, BACK], [OUT], [BACK]], ids=["both", "out", "back"])
def test_the_link_between_the_sites_is_cut(group: Group, network: Network, paths: list[tuple[str, str]]) -> None:
    with host_at(group) as host:
        network.cut(*paths)
        wait_alone(group)
        host.wait_for_more(20)
        wait_for(lambda: "no answer within 5 seconds" in str(group.show()["failure_detail"]), "a failed dial in words")
        network.heal()
    assert group.show()["twinsite"]["last_resync"]["kind"] == "delta"


def test_the_link_between_the_sites_loses_packets(group: Group, network: Network) -> None:
    with host_at(group) as host:
        network.lose(10, OUT, BACK)
        host.wait_for_more(100)
        assert network.lost_packets() > 0
        network.heal()


def test_the_link_between_the_sites_is_too_slow(group: Group, network: Network) -> None:
    with host_at(group) as host, NbdClient(group.connect("az1")[0], timeout_seconds=PATIENCE_SECONDS) as other:
        network.slow_down("az2", 200_000)
        other.write(512 * MIB, pattern(4 * MIB))  # Takes minutes on this link, and is answered before.
        wait_alone(group)
        host.wait_for_more(20)
        network.heal()


# The controller


@pytest.mark.parametrize("path", [("az1", CONTROLLER), (CONTROLLER, "az1")], ids=["to", "from"])
def test_the_controller_loses_the_primary_site(group: Group, network: Network, path: tuple[str, str]) -> None:
    with host_at(group) as host:
        network.cut(path)
        shown = group.wait_shown("a primary site out of reach", fault_level="2")
        assert shown["replication_status"] == "active"
        assert "the node of the primary site is not connected" in shown["failure_detail"]
        assert shown["twinsite"]["failover"]["possible"]
        assert group.worker_status("az1").mode is Mode.IN_SYNC
        host.wait_for_more(20)
        network.heal()


def test_the_controller_loses_the_dr_site(group: Group, network: Network) -> None:
    with host_at(group) as host:
        network.cut_between("az2", CONTROLLER)
        wait_for(lambda: not group.show()["twinsite"]["failover"]["possible"], "a DR site out of reach")
        shown = group.show()
        assert (shown["replication_status"], shown["fault_level"]) == ("active", "0")
        assert shown["twinsite"]["failover"]["reason"] == "the node of az2 is not connected"
        host.wait_for_more(20)
        network.heal()


@pytest.mark.parametrize("what_heals", ["link", "controller"])
def test_production_without_dr_side_and_arbiter_holds_until_one_is_back(
    group: Group, network: Network, what_heals: str
) -> None:
    with host_at(group) as host:
        network.isolate(CONTROLLER)
        host.wait_for_more(100)
        network.cut_between("az1", "az2")
        group.wait_worker("az1", lambda s: s.mode is Mode.HOLDING, "a primary that holds")
        answered = list(host.answered)
        group.wait_worker(
            "az1", lambda s: s.failure is not None and "arbiter" in s.failure.message, "an arbiter that does not answer"
        )
        status = group.worker_status("az1")
        assert (status.mode, host.answered) == (Mode.HOLDING, answered), "a write was answered by one of three"
        cut = CONTROLLER if what_heals == "link" else "az2"
        network.cut_only(("az1", cut), (cut, "az1"))
        host.wait_for_more(20)
        after = group.worker_status("az1")
        if what_heals == "link":
            # The stream goes on where it was: nothing was copied, and nothing is missing over there.
            assert status.resync is not None
            assert after.resync is not None
            assert (after.dirty_bytes, after.resync.started_at) == (0, status.resync.started_at)
        else:
            assert after.mode is Mode.CONNECTING
        network.heal()


# Whole sites


def test_the_dr_site_is_cut_off_from_everything(group: Group, network: Network) -> None:
    with host_at(group) as host:
        network.isolate("az2")
        wait_alone(group)
        host.wait_for_more(20)
        network.heal()


def test_the_primary_site_is_cut_off_and_the_group_fails_over(group: Group, network: Network) -> None:
    old_uris = group.connect("az1")
    old_host = DependentWriter(patience_seconds=PATIENCE_SECONDS)
    old_host.start(old_uris)
    old_host.wait_for_more(20)
    network.isolate("az1")
    group.wait_worker("az1", lambda s: s.mode is Mode.HOLDING, "a primary that holds")
    answered = list(old_host.answered)
    shown = group.wait_shown("a primary site out of reach", fault_level="2")
    assert shown["twinsite"]["failover"]["possible"]
    group.fail_over()

    new_host = DependentWriter(old_host)
    new_host.start(group.connect("az2"))  # Checks what it finds: nothing that was answered is missing.
    new_host.wait_for_more(20)
    assert group.worker_status("az1").mode is Mode.HOLDING
    assert old_host.answered == answered, "the old primary has answered a write"

    network.heal()
    old_host.wait_ended()
    assert old_host.answered == answered, "the old primary has answered a write"
    group.wait_worker("az1", lambda s: s.role is Role.SECONDARY, "an old primary that knows what it is")
    for uri in old_uris:
        with pytest.raises(StorageFault):
            NbdClient(uri)
    shown = group.show()
    assert (shown["status"], shown["replication_status"], shown["priority_station"]) == (
        "failovered",
        "active-stopped",
        "az2",
    )
    new_host.wait_for_more(20)
    group.act("reprotect")
    group.wait_active()
    new_host.wait_for_more(20)
    new_host.stop()
    group.assert_twins_equal()
