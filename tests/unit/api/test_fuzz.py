"""Random bodies and queries: whatever comes, the answer is one of the documented ones and the server lives."""

from __future__ import annotations

import os
import random
from typing import Any

from tests.support.controller import GROUPS, PAIRS, Site

REQUESTS = 400
DOCUMENTED = {200, 202, 400, 404, 405, 409, 413, 415, 501, 503}

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**63,
    10**300,
    1.5,
    1e308,
    "",
    "az1",
    "az2",
    "hypermetro",
    "x" * 300,
    "ü\u202e\U0001f600",
    "' OR 1=1 --",
    [],
    {},
    [[]],
    {"id": {}},
]
KEYS = ["volume", "replication", "replication_consistency_group", "size", "name", "description", "metadata"]
KEYS += ["volume_ids", "replication_ids", "add_replication_ids", "remove_replication_ids", "priority_station"]
KEYS += ["replication_model", "availability_zone", "volume_type", "multiattach", "connector", "host"]
KEYS += ["os-initialize_connection", "os-terminate_connection", "os-sync-replication-consistency-group"]
QUERIES = ["limit", "marker", "offset", "sort_key", "sort_dir", "sort", "changes-since", "name", "status", "metadata"]
QUERIES += ["volume_id", "volume_ids", "availability_zone", "priority_station", "usage"]


def anything(chooser: random.Random, ids: list[str], depth: int = 0) -> Any:
    """Return some JSON, in which what the interface knows turns up often."""
    kind = chooser.random()
    if depth > 3 or kind < 0.4:
        return chooser.choice([*VALUES, *ids])
    if kind < 0.9:
        names = chooser.sample(KEYS, chooser.randint(0, 6))
        return {name: anything(chooser, ids, depth + 1) for name in names}
    return [anything(chooser, ids, depth + 1) for _ in range(chooser.randint(0, 3))]


def nearly_right(chooser: random.Random, ids: list[str]) -> Any:
    """Return a body that is right but for one field."""
    bodies: list[dict[str, dict[str, Any]]] = [
        {"volume": {"size": 1, "availability_zone": "az1", "name": "n", "metadata": {}, "multiattach": False}},
        {"replication": {"volume_ids": ids[:2], "priority_station": "az1", "replication_model": "hypermetro"}},
        {
            "replication_consistency_group": {
                "replication_ids": ids[2:3],
                "priority_station": "az1",
                "replication_model": "hypermetro",
                "add_replication_ids": ids[2:3],
            }
        },
    ]
    ((name, fields),) = chooser.choice(bodies).items()
    changed = dict(fields)
    changed[chooser.choice(list(changed))] = anything(chooser, ids, depth=2)
    return {name: changed}


async def test_random_requests(site: Site) -> None:
    seed = int(os.environ.get("TWINSITE_TEST_SEED", random.randrange(2**32)))
    print(f"TWINSITE_TEST_SEED={seed}")
    chooser = random.Random(seed)
    site.settings.connect_wait_seconds = site.settings.stop_wait_seconds = 0.01
    group = await site.make_group()
    pair = await site.show_pair(group["replication_ids"][0])
    ids = [*pair["volume_ids"].split(","), pair["id"], group["id"]]
    for number in range(REQUESTS):
        path = chooser.choice(["/volumes", "/volumes/detail", PAIRS, GROUPS, "/types", "/limits"])
        if chooser.random() < 0.5:
            path += f"/{chooser.choice(ids)}"
        if chooser.random() < 0.3:
            path += "/action"
        method = chooser.choice(["GET", "POST", "PUT", "DELETE"])
        query = {name: str(anything(chooser, ids, depth=4)) for name in chooser.sample(QUERIES, chooser.randint(0, 3))}
        body = chooser.choice([anything, nearly_right])(chooser, ids)
        url = f"/v2/{site.project_id}{path}"
        answer = await site.http.request(method, url, params=query, json=body if method in ("POST", "PUT") else None)
        assert answer.status_code in DOCUMENTED, (number, method, url, query, body, answer.text)
        assert answer.headers["x-openstack-request-id"]
        if answer.status_code >= 400:
            ((fault, content),) = answer.json().items()
            assert (content["code"], fault.isalpha()) == (answer.status_code, True)
    await site.settle()
    assert (await site.http.get("/healthz")).status_code == 200
