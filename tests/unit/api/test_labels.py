"""Metadata and tags of volumes, as clients of Cinder and of the EVS API use them."""

from __future__ import annotations

import pytest

from tests.support.controller import Site
from twinsite.api import answers

TAGS = "/os-vendor-tags/volumes"


@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_metadata_is_added_replaced_and_deleted(site: Site, version: str) -> None:
    volume = await site.make_volume(metadata={"a": "1"})
    path = f"/volumes/{volume['id']}/metadata"

    async def check(method: str, rest: str, body: object, expected: object) -> None:
        answer = await site.call(method, path + rest, body, version=version)
        assert (answer.status_code, answer.json() if answer.content else None) == (200, expected)

    await check("GET", "", None, {"metadata": {"a": "1"}})
    await check("POST", "", {"metadata": {"b": "2", "a": "3"}}, {"metadata": {"a": "3", "b": "2"}})
    await check("GET", "/b", None, {"meta": {"b": "2"}})
    await check("PUT", "/b", {"meta": {"b": "4"}}, {"meta": {"b": "4"}})
    await check("DELETE", "/a", None, None)
    await check("GET", "", None, {"metadata": {"b": "4"}})
    await check("PUT", "", {"metadata": {"ü": ""}}, {"metadata": {"ü": ""}})
    shown = await site.show_volume(volume["id"])
    assert (shown["metadata"], shown["updated_at"] is not None) == ({"ü": ""}, True)
    await check("PUT", "", {"metadata": {}}, {"metadata": {}})


async def test_as_many_entries_as_are_allowed_and_no_more(site: Site) -> None:
    volume = await site.make_volume()
    path = f"/volumes/{volume['id']}/metadata"
    full = {f"key-{number}": "x" for number in range(128)}
    assert (await site.call("POST", path, {"metadata": full})).status_code == 200
    assert (await site.call("POST", path, {"metadata": {"one-more": "x"}})).status_code == 400
    assert (await site.call("PUT", f"{path}/one-more", {"meta": {"one-more": "x"}})).status_code == 400
    assert (await site.call("PUT", f"{path}/key-1", {"meta": {"key-1": "y"}})).status_code == 200
    assert (await site.call("GET", path)).json()["metadata"] == {**full, "key-1": "y"}


async def test_tags_are_added_replaced_and_deleted(site: Site) -> None:
    volume = await site.make_volume(metadata={"not": "a tag"})
    path = f"{TAGS}/{volume['id']}"

    async def check(method: str, rest: str, body: object, expected: object) -> None:
        answer = await site.call(method, path + rest, body)
        assert (answer.status_code, answer.json() if answer.content else None) == (200, expected)

    await check("GET", "", None, {"tags": {}})
    await check("POST", "", {"tags": {"owner": "finance", "tier": ""}}, {"tags": {"owner": "finance", "tier": ""}})
    await check("POST", "", {"tags": {"owner": "sales"}}, {"tags": {"owner": "sales", "tier": ""}})
    await check("GET", "/owner", None, {"tag": {"owner": "sales"}})
    await check("PUT", "/owner", {"tag": {"owner": "财务_1.2-x"}}, {"tag": {"owner": "财务_1.2-x"}})
    await check("POST", "/action", {"os-delete_tags": {"tier": "", "none": "x"}}, None)
    await check("GET", "", None, {"tags": {"owner": "财务_1.2-x"}})
    await check("PUT", "", {"tags": {"a": "b"}}, {"tags": {"a": "b"}})
    await check("DELETE", "/a", None, None)
    await check("GET", "", None, {"tags": {}})
    assert (await site.show_volume(volume["id"]))["metadata"] == {"not": "a tag"}


async def test_a_volume_has_ten_tags_and_no_more(site: Site) -> None:
    volume = await site.make_volume()
    path = f"{TAGS}/{volume['id']}"
    full = {f"key-{number}": "x" for number in range(10)}
    assert (await site.call("PUT", path, {"tags": full})).status_code == 200
    assert (await site.call("POST", path, {"tags": {"one-more": "x"}})).status_code == 400
    assert (await site.call("GET", path)).json() == {"tags": full}


async def test_volumes_are_found_by_their_tags(site: Site) -> None:
    tags = {"one": {"a": "b", "d": "e"}, "two": {"a": "c"}, "three": {"d": "f"}, "four": {}}
    for name, wanted in tags.items():
        volume = await site.make_volume(name=name)
        await site.call("PUT", f"{TAGS}/{volume['id']}", {"tags": wanted})
    assert (await site.call("GET", TAGS)).json() == {"tags": {"a": ["b", "c"], "d": ["e", "f"]}}

    async def found(query: str) -> list[str]:
        answer = await site.call("GET", f"{TAGS}/resource_instances?{query}")
        assert answer.status_code == 200, answer.text
        answers.TaggedResources.model_validate(answer.json())
        rows = answer.json()["resources"]
        assert answer.json()["total_count"] == len(rows)
        assert all(row["tags"] == tags[row["resource_name"]] for row in rows)
        assert all(row["resource_id"] == row["resource_detail"]["id"] for row in rows)
        return [row["resource_name"] for row in rows]

    assert await found("") == ["four", "three", "two", "one"]
    assert await found("tags={'a':['b','c']}") == ["two", "one"]
    assert await found("tags={'a':['b','c'],'d':['e']}") == ["one"]
    assert await found("tags={'d':[]}") == ["three", "one"]
    assert await found('tags_any={"a":["c"],"d":["f"]}') == ["three", "two"]
    assert await found("not_tags={'a':['b'],'d':['e']}") == ["four", "three", "two"]
    assert await found("not_tags_any={'a':['b','c'],'d':['f']}") == ["four"]
    assert await found("tags={'a':[]}&not_tags={'d':[]}") == ["two"]


async def test_other_projects_labels_are_not_there(site: Site) -> None:
    volume = await site.make_volume()
    own, site.project_id = site.project_id, "0" * 32
    for path in (f"/volumes/{volume['id']}/metadata", f"{TAGS}/{volume['id']}", TAGS):
        answer = await site.call("GET", path)
        assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, "Common.0018")
    site.project_id = own


async def test_the_summary_counts(site: Site) -> None:
    await site.make_volume(size=2)
    await site.make_volume(size=3)
    answer = await site.call("GET", "/volumes/summary", version="v3")
    assert answer.json() == {"volume-summary": {"total_count": 2, "total_size": 5}}
    assert (await site.call("GET", "/extensions")).json() == {"extensions": []}
