"""The OpenAPI document: that of the code, whole, and the same under both versions of the volume interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.controller import Site
from twinsite.api.openapi import OF_THE_REFERENCE, operations
from twinsite.api.openapi_file import default_document

COMMITTED = Path(__file__).parents[3] / "docs/openapi.json"
DOCUMENT: dict[str, Any] = json.loads(default_document())
OPERATIONS = {operation["operationId"]: (path, method, operation) for path, method, operation in operations(DOCUMENT)}
GROUP_ACTION = OPERATIONS["act_on_group"][2]


def references(value: Any) -> Iterator[str]:
    """Walk over all references in a part of the document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    found: Any = DOCUMENT if "$ref" in part else part
    for name in part.get("$ref", "#").split("/")[1:]:
        found = found[name]
    return dict(found)


def test_the_committed_document_is_that_of_the_code() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == default_document(), (
        "run `make openapi` and commit docs/openapi.json"
    )


def test_the_founding_request_is_the_first_example() -> None:
    path, method, _ = OPERATIONS["act_on_group"]
    founding = "/v2/{project_id}/os-vendor-replication-consistency-groups/{replication_consistency_group_id}/action"
    assert (path, method) == (founding, "post")
    examples = GROUP_ACTION["requestBody"]["content"]["application/json"]["examples"]
    assert next(iter(examples.values()))["value"] == {"os-sync-replication-consistency-group": None}
    # The page's answers, normal and abnormal.
    statuses = {"200", "400", "401", "403", "404", "405", "406", "407", "408", "409", "500", "501", "502", "503", "504"}
    assert statuses <= set(GROUP_ACTION["responses"])
    assert "content" not in GROUP_ACTION["responses"]["200"]


@pytest.mark.parametrize("identifier", OPERATIONS)
def test_every_operation_is_described_whole(identifier: str) -> None:
    path, method, operation = OPERATIONS[identifier]
    answers = operation["responses"]
    assert operation["tags"]
    assert operation["description"]
    assert "422" not in answers
    assert {"400", "405", "406", "500", "503"} <= set(answers)
    assert ("401" in answers and "403" in answers) == ("security" in operation) or identifier == "log_in"
    assert ({"408", "413", "415"} <= set(answers)) == ("requestBody" in operation)
    if "/os-vendor-replication" in path:
        assert {str(status) for status in OF_THE_REFERENCE} <= set(answers)
    for status, named in answers.items():
        answer = resolved(named)
        if status not in ("407", "502", "504"):
            assert resolved(answer["headers"]["x-openstack-request-id"])["required"]
        if "content" in answer:
            assert answer["content"]["application/json"]["schema"], (status, answer)
        elif int(status) >= 400:
            assert method == "head"
    if "requestBody" in operation:
        assert operation["requestBody"]["content"]["application/json"]["schema"]


def test_every_reference_and_every_link_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        assert resolved({"$ref": reference}), reference
    links = [
        link["operationId"]
        for _, _, operation in OPERATIONS.values()
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert set(links) <= set(OPERATIONS)
    assert len(links) > 30


def test_both_versions_of_the_volume_interface_are_the_same() -> None:
    second = json.dumps({path: item for path, item in DOCUMENT["paths"].items() if path.startswith("/v3/")})
    first = {
        path: item for path, item in DOCUMENT["paths"].items() if path.startswith("/v2/") and "/os-vendor-" not in path
    }
    assert json.loads(second.replace("/v3/", "/v2/").replace("__v3", "__v2")) == json.loads(
        json.dumps(first).replace("/v3/", "/v2/")
    )


def test_nothing_internal_is_told() -> None:
    assert not any(path.startswith("/internal") for path in DOCUMENT["paths"])


async def test_the_page_shows_the_settings_of_its_installation(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    zone = document["components"]["schemas"]["PairFields"]["properties"]["priority_station"]
    assert zone["enum"] == site.settings.availability_zones
    assert "swagger" in (await site.http.get("/docs")).text
