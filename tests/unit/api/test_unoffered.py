"""What is documented for Cinder, EVS and Keystone and not offered: 501; what is documented nowhere: 404."""

from __future__ import annotations

import re

import pytest

from tests.support.controller import Site
from twinsite.api.unoffered import (
    UNOFFERED_IDENTITY_RESOURCES,
    UNOFFERED_PATHS,
    UNOFFERED_RESOURCES,
    UNOFFERED_VERSIONS,
)

SOME_ID = "00000000-0000-4000-8000-000000000000"


def filled(path: str) -> str:
    """Return a path with ids in the places of its parameters."""
    return re.sub(r"\{\w+\}", SOME_ID, path)


@pytest.mark.parametrize("role", ["admin", None])
async def test_each_path_of_the_tables_says_that_it_is_not_offered(site: Site, role: str | None) -> None:
    below = [f"{version}/{site.project_id}/" for version in ("v2", "v3")]
    paths = [(f"/{prefix}{path}", path, True) for prefix in below for path in UNOFFERED_RESOURCES]
    paths += [(f"/{prefix}{path}", path, False) for prefix in below for path in UNOFFERED_PATHS]
    paths += [
        (f"/{version}/{site.project_id}/{path}", path, True)
        for version, resources in UNOFFERED_VERSIONS.items()
        for path in resources
    ]
    paths += [(f"/identity/v3/{path}", path, True) for path in UNOFFERED_IDENTITY_RESOURCES]
    headers = {} if role is not None else {"X-Auth-Token": ""}
    for path, resource, has_more in paths:
        for method, more in (("POST", ""), ("GET", f"/{SOME_ID}/more" if has_more else "")):
            answer = await site.http.request(method, filled(path) + more, headers=headers)
            if role is None:
                assert answer.status_code == 401, (method, path)
                continue
            assert answer.status_code == 501, (method, path, answer.text)
            body = answer.json()
            assert f"{resource} are not offered" in body["notImplemented"]["message"]
            assert ("error" in body) == path.startswith("/identity")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/{}/pears",
        "/v3/{}/types/x/pears",
        "/v2/{}/volumes/x/pears",
        "/v2/{}/os-vendor-volumes/x/pears",
        "/v1/{}/pears",
        "/v2.1/{}/volumes",
        "/v5/{}",
        "/v4/{}/jobs",
        "/identity/v3/pears",
        "/identity/v3/users/x/pears",
    ],
)
async def test_what_is_documented_nowhere_is_not_there(site: Site, path: str) -> None:
    answer = await site.http.get(path.format(site.project_id))
    assert answer.status_code == 404
    assert ("error" in answer.json()) == path.startswith("/identity")


@pytest.mark.parametrize("path", ["/v1/{}/jobs/x", "/v2.1/{}/cloudvolumes", "/v3/{}/clusters"])
async def test_another_project_is_told_first(site: Site, path: str) -> None:
    answer = await site.http.get(path.format("another"))
    assert (answer.status_code, answer.headers["x-twinsite-error-code"]) == (400, "Common.0018")


async def test_what_is_offered_beside_them_stays(site: Site) -> None:
    volume = await site.make_volume()
    for path in ("/types", "/types/default", "/volumes/detail", f"/os-vendor-volumes/{volume['id']}/tags"):
        assert (await site.call("GET", path)).status_code == 200, path
    answer = await site.call("POST", "/types", {})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
