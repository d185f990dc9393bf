"""Lists: pages, order, filters."""

from __future__ import annotations

from typing import Any

from tests.support.controller import GROUPS, PAIRS, Site
from twinsite.api.answers import VolumeDetailList, VolumeList


async def names(site: Site, query: str, path: str = "/volumes/detail", key: str = "volumes") -> list[str]:
    """Return the names in a list."""
    answer = await site.call("GET", f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()[key]]


async def make_volumes(site: Site) -> list[dict[str, Any]]:
    """Make five volumes whose names, sizes and ages sort differently."""
    rows = [("c", 2, "az1"), ("a", 1, "az2"), ("e", 3, "az1"), ("b", 1, "az2"), ("d", 2, "az1")]
    return [
        await site.make_volume(zone, name=name, size=size, metadata={"tier": str(size)}) for name, size, zone in rows
    ]


async def test_order(site: Site) -> None:
    await make_volumes(site)
    assert await names(site, "") == ["d", "b", "e", "a", "c"]
    assert await names(site, "sort_dir=asc") == ["c", "a", "e", "b", "d"]
    assert await names(site, "sort_key=name&sort_dir=asc") == ["a", "b", "c", "d", "e"]
    assert await names(site, "sort=name:desc") == ["e", "d", "c", "b", "a"]
    assert (await names(site, "sort_key=size&sort_dir=desc"))[0] == "e"


async def test_filters(site: Site) -> None:
    volumes = await make_volumes(site)
    assert await names(site, "name=e") == ["e"]
    assert await names(site, "name=nobody") == []
    assert await names(site, "availability_zone=az2") == ["b", "a"]
    assert await names(site, "metadata={'tier':'2'}") == ["d", "c"]
    assert await names(site, "status=error") == []
    assert await names(site, "status=error_deleting") == []
    assert await names(site, "status=available&offset=3") == ["a", "c"]
    assert await names(site, f"changes-since={volumes[3]['created_at']}") == ["d", "b"]
    assert await names(site, f"changes-since={volumes[3]['created_at']}Z") == ["d", "b"]
    assert await names(site, "unknown=x&all_tenants=1") == ["d", "b", "e", "a", "c"]


async def follow_markers(site: Site, order: str, limit: int, count: int) -> list[str]:
    """Page as openstacksdk does: by marker, until a page is empty."""
    seen: list[str] = []
    marker = ""
    for _ in range(count + 1):
        page = (await site.call("GET", f"/volumes?{order}&limit={limit}{marker}")).json()
        VolumeList.model_validate(page)
        rows = page["volumes"]
        if not rows:
            return seen
        seen += [row["name"] for row in rows]
        marker = f"&marker={rows[-1]['id']}"
        assert ("volumes_links" in page) == (len(seen) < count)
    raise AssertionError("the pages never end")


async def follow_links(site: Site, order: str, limit: int) -> list[str]:
    """Page as Cinder's clients do: by the link, while there is one."""
    seen: list[str] = []
    url: str | None = f"/v2/{site.project_id}/volumes/detail?{order}&limit={limit}"
    while url is not None:
        page = (await site.http.get(url)).json()
        VolumeDetailList.model_validate(page)
        seen += [row["name"] for row in page["volumes"]]
        url = page["volumes_links"][0]["href"] if "volumes_links" in page else None
    return seen


async def test_pages_by_marker_and_by_link(site: Site) -> None:
    await make_volumes(site)
    for order in ("sort_key=created_at", "sort_key=size&sort_dir=asc", "sort_key=updated_at", "sort=name"):
        everything = await names(site, order)
        for limit in (1, 2, 5):
            assert await follow_markers(site, order, limit, len(everything)) == everything, (order, limit)
            assert await follow_links(site, order, limit) == everything, (order, limit)


async def test_pairs_and_groups_are_filtered(site: Site) -> None:
    group = await site.make_group(2)
    other = await site.make_pair(name="free")
    grouped = set(group["replication_ids"])

    async def ids(query: str, path: str = PAIRS, key: str = "replications") -> set[str]:
        return {row["id"] for row in (await site.call("GET", f"{path}?{query}")).json()[key]}

    first = await site.show_pair(group["replication_ids"][0])
    production, dr = first["volume_ids"].split(",")
    assert await ids(f"replication_consistency_group_id={group['id']}") == grouped
    assert await ids("name=free") == {other["id"]}
    assert await ids(f"volume_id={dr}") == {first["id"]}
    assert await ids(f"volume_ids={dr},{production}") == {first["id"]}
    assert await ids("priority_station=az2") == set()
    assert await ids("status=available&limit=2&sort_dir=asc") == grouped
    assert await ids(f"volume_id={production}", GROUPS, "replication_consistency_groups") == {group["id"]}
    assert await ids(f"volume_id={other['volume_ids'][:36]}", GROUPS, "replication_consistency_groups") == set()
    kind = "replication_consistency_groups"
    assert await ids(f"volume_ids={dr},{production}", GROUPS, kind) == {group["id"]}
    assert await ids(f"volume_ids={other['volume_ids'][:36]},{production}", GROUPS, kind) == set()
    assert await ids(f"replication_consistency_group_id={group['id']}", GROUPS, kind) == {group["id"]}
    assert await ids(f"replication_consistency_group_id={other['id']}", GROUPS, kind) == set()
    assert await ids(f"marker={group['id']}", GROUPS, "replication_consistency_groups") == set()
