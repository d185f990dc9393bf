"""What the controller tells Prometheus, and whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.controller import GROUPS, Json, Site, make_settings, open_site
from tests.support.site_fixtures import Prepared
from tests.unit.api.test_moves import active_group, silenced
from twinsite.control import measuring
from twinsite.messages import Mode

TOKEN = "a token of many letters"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def _always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was gathered before the test's last step is of no use to it."""
    monkeypatch.setattr(measuring, "KEPT_SECONDS", 0.0)


async def scrape(site: Site) -> Samples:
    """Return all samples by name and labels; each family has a text."""
    answer = await site.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation.endswith("."), family.name
        found |= {(sample.name, frozenset(sample.labels.items())): sample.value for sample in family.samples}
    return found


def of(found: Samples, metric: str, /, **labels: str) -> float:
    """Return one sample."""
    return found[metric, frozenset(labels.items())]


def words(found: Samples, group: Json) -> set[str]:
    """Return the replication statuses that a group is said to have."""
    name = "twinsite_group_replication_status"
    return {
        dict(labels)["replication_status"]
        for (known, labels), value in found.items()
        if known == name and value and dict(labels)["group"] == group["id"]
    }


async def test_a_group_through_its_states(site: Site) -> None:
    group = await active_group(site)
    found, labels = await scrape(site), {"group": group["id"]}
    assert words(found, group) == {"active"}
    assert of(found, "twinsite_group_failover_possible", **labels) == 1
    assert of(found, "twinsite_group_secondary_in_sync", **labels) == 1
    assert of(found, "twinsite_group_replication_wanted", **labels) == 1
    assert of(found, "twinsite_group_stale_since_timestamp_seconds", **labels) == 0
    assert of(found, "twinsite_group_fault_level", **labels) == 0
    info = {
        **labels,
        "name": group["name"] or "",
        "project": site.project_id,
        "status": "available",
        "primary_site": "az1",
        "secondary_site": "az2",
    }
    assert of(found, "twinsite_group_info", **info) == 1
    site.az1.alter(group["id"], mode=Mode.HOLDING, holding_since=1.0)
    await site.az1.post()
    found = await scrape(site)
    assert (words(found, group), of(found, "twinsite_group_fault_level", **labels)) == ({"inactive"}, 2)
    site.az1.alter(group["id"], mode=Mode.IN_SYNC, holding_since=None)
    async with site.nodes_running():
        assert (await site.act(group["id"], "stop")).status_code == 200
    found = await scrape(site)
    assert words(found, group) == {"active-stopped"}
    assert of(found, "twinsite_group_replication_wanted", **labels) == 0


async def test_sites(site: Site) -> None:
    found = await scrape(site)
    for name in ("az1", "az2"):
        assert of(found, "twinsite_site_connected", site=name) == 1
        assert of(found, "twinsite_site_lost", site=name) == 0
        assert of(found, "twinsite_site_pool_size_bytes", site=name) == 10**12
        assert of(found, "twinsite_site_pool_free_bytes", site=name) == 10**11
    seen = of(found, "twinsite_site_last_seen_timestamp_seconds", site="az2")
    async with silenced(site, "az2"):
        found = await scrape(site)
    assert of(found, "twinsite_site_connected", site="az2") == 0
    assert of(found, "twinsite_site_connected", site="az1") == 1
    assert 0 < of(found, "twinsite_site_last_seen_timestamp_seconds", site="az2") <= seen + 1


async def test_requests_are_counted_by_the_template_of_their_path(site: Site) -> None:
    group = await site.make_group()
    before = await scrape(site)
    for path in (group["id"], "00000000-0000-4000-8000-000000000000"):
        await site.call("GET", f"{GROUPS}/{path}")
    await site.http.request("BREW", "/no/such/path")
    found = await scrape(site)
    route = "/v2/{project_id}/os-vendor-replication-consistency-groups/{replication_consistency_group_id}"
    name = "twinsite_http_requests_total"
    was = before.get((name, frozenset({"method": "GET", "route": route, "status": "200"}.items())), 0)
    assert of(found, name, method="GET", route=route, status="200") == was + 1
    assert of(found, name, method="GET", route=route, status="404") == 1
    (stranger,) = [labels for known, labels in found if known == name and ("method", "other") in labels]
    assert dict(stranger)["route"] == "other"
    count = of(found, "twinsite_http_request_duration_seconds_count", method="GET", route=route)
    assert count == was + 2
    assert group["id"] not in "".join(dict(labels).get("route", "") for _, labels in found)


async def ask(site: Site, client: tuple[str, int], **headers: str) -> int:
    """Ask for metrics from an address; return the status."""
    transport = httpx.ASGITransport(site.app, client=client)
    async with httpx.AsyncClient(transport=transport, base_url="http://twinsite.test") as http:
        answer = await http.get("/metrics", headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert ("twinsite_group" in answer.text) == (answer.status_code == 200)
        return answer.status_code


async def test_without_a_token_only_this_machine_is_told(site: Site) -> None:
    for address in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
        assert await ask(site, (address, 1)) == 200
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", ""):
        assert await ask(site, (address, 1)) == 403
    for header in ("Forwarded", "X_Forwarded_For", "X_Real_IP", "Via"):
        assert await ask(site, ("127.0.0.1", 1), **{header: "10.0.0.1"}) == 403, "a proxy stands before it"


async def test_with_a_token_who_has_it_is_told(prepared: Prepared, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory, metrics_token=TOKEN), prepared.token) as site:
        assert await ask(site, ("10.0.0.1", 1), Authorization=f"Bearer {TOKEN}") == 200
        assert await ask(site, ("10.0.0.1", 1), Authorization=f"bearer {TOKEN}", X_Forwarded_For="10.1.1.1") == 200
        for shown in (f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", TOKEN, "Bearer "):
            assert await ask(site, ("127.0.0.1", 1), Authorization=shown) == 401
        assert await ask(site, ("127.0.0.1", 1)) == 401
        assert TOKEN not in repr(site.settings)
