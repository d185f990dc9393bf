"""Bad input, row by row: the status and code of each, a message that helps, and nothing changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.support.controller import GROUPS, PAIRS, Site, group_fields, make_settings, open_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAGS = "/os-vendor-tags/volumes"
NOBODY = "00000000-0000-4000-8000-000000000000"
MODEL = {"priority_station": "az1", "replication_model": "hypermetro"}


@dataclass
class World:
    """Objects that the rows refer to, made once: no row may change any of them."""

    site: Site
    names: dict[str, str]
    baseline: list[Any]

    async def is_unchanged(self) -> bool:
        """Say whether the project has what it had at first."""
        return await snapshot(self.site) == self.baseline

    def fill(self, value: Any) -> Any:
        """Replace "$name" by the id of that object, everywhere in a value."""
        if isinstance(value, str):
            for name, object_id in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
                value = value.replace(f"${name}", object_id)
            return value
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return {key: self.fill(item) for key, item in value.items()} if isinstance(value, dict) else value


async def snapshot(site: Site) -> list[Any]:
    """Return everything that the project has."""
    return [(await site.call("GET", path)).json() for path in ("/volumes/detail", PAIRS, GROUPS)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Give a controller with volumes that fit and do not fit together, a free pair and a group."""
    async with open_site(make_settings(tmp_path_factory.mktemp("data"), quota_gigabytes=500)) as site:
        fields: dict[str, dict[str, Any]] = {
            "p": {"availability_zone": "az1"},
            "d": {"availability_zone": "az2"},
            "p2": {"availability_zone": "az1"},
            "big": {"availability_zone": "az2", "size": 2},
            "sata": {"availability_zone": "az2", "volume_type": "SATA"},
            "shared": {"availability_zone": "az2", "multiattach": True},
            "used": {"availability_zone": "az2"},
        }
        names = {
            name: (await site.make_volume(**{"zone": v.pop("availability_zone"), **v}))["id"]
            for name, v in fields.items()
        }
        names["pair"] = (await site.make_pair())["id"]
        group = await site.make_group()
        names["group"], names["member"] = group["id"], group["replication_ids"][0]
        paired = (await site.show_pair(names["pair"]))["volume_ids"].split(",")
        names["paired_p"], names["paired_d"] = paired
        async with site.nodes_running():
            connector = {"os-initialize_connection": {"connector": {"host": "host-1"}}}
            assert (await site.call("POST", f"/volumes/{names['used']}/action", connector)).status_code == 200
        yield World(site, names, await snapshot(site))


def volume(**fields: Any) -> dict[str, Any]:
    """Return a body that creates a volume."""
    return {"volume": {"size": 1, "availability_zone": "az1", **fields}}


def pair(first: str = "$p", second: str = "$d", **fields: Any) -> dict[str, Any]:
    """Return a body that creates a pair."""
    return {"replication": {"volume_ids": [first, second], **MODEL, **fields}}


def group(*ids: str, **fields: Any) -> dict[str, Any]:
    """Return a body that creates a group."""
    return {"replication_consistency_group": group_fields(list(ids), **fields)}


def change(**fields: Any) -> dict[str, Any]:
    """Return a body that changes a group."""
    return {"replication_consistency_group": fields}


ACTION = f"{GROUPS}/$group/action"
LONG = "x" * 256
WIDE = "ü" * 128  # 256 bytes in 128 characters.

ROWS: list[tuple[str, str, Any, int, str, str]] = [
    # Volumes
    ("POST", "/volumes", {}, 400, "EVS.5400", "volume"),
    ("POST", "/volumes", [], 400, "EVS.5400", ""),
    ("POST", "/volumes", {"volume": None}, 400, "EVS.5400", "volume"),
    ("POST", "/volumes", {"volume": {}}, 400, "EVS.1010", "size"),
    ("POST", "/volumes", volume(size=0), 400, "EVS.1010", "1 to 65536"),
    ("POST", "/volumes", volume(size=-1), 400, "EVS.1010", "size"),
    ("POST", "/volumes", volume(size=65537), 400, "EVS.1010", "65536"),
    ("POST", "/volumes", volume(size=10**400), 400, "EVS.1010", "65536"),
    ("POST", "/volumes", volume(size="10"), 400, "EVS.1010", "integer"),
    ("POST", "/volumes", volume(size=1.5), 400, "EVS.1010", "integer"),
    ("POST", "/volumes", volume(size=True), 400, "EVS.1010", "integer"),
    ("POST", "/volumes", volume(name=LONG), 400, "EVS.1003", "256 bytes"),
    ("POST", "/volumes", volume(name=WIDE), 400, "EVS.1003", "256 bytes"),
    ("POST", "/volumes", volume(name=7), 400, "EVS.1003", "string"),
    ("POST", "/volumes", volume(description=LONG), 400, "EVS.1004", "256 bytes"),
    ("POST", "/volumes", volume(availability_zone="az9"), 400, "EVS.1036", "az1, az2"),
    ("POST", "/volumes", volume(volume_type="gold"), 400, "EVS.1020", "SSD, SAS, SATA"),
    ("POST", "/volumes", volume(metadata={"key": 1}), 400, "EVS.5400", "metadata"),
    ("POST", "/volumes", volume(metadata={"": "empty"}), 400, "EVS.5400", "metadata"),
    ("POST", "/volumes", volume(multiattach="yes"), 400, "EVS.5400", "multiattach"),
    ("POST", "/volumes", volume(size=500), 413, "EVS.1034", "quota"),
    ("POST", "/volumes", volume(snapshot_id=NOBODY), 501, "EVS.5501", "snapshot_id"),
    ("POST", "/volumes", volume(source_volid=NOBODY), 501, "EVS.5501", "source_volid"),
    ("POST", "/volumes", volume(imageRef=NOBODY), 501, "EVS.5501", "imageRef"),
    ("GET", f"/volumes/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("GET", "/volumes/not-an-id", None, 404, "EVS.5404", "not-an-id"),
    ("PUT", f"/volumes/{NOBODY}", {"volume": {}}, 404, "EVS.5404", NOBODY),
    ("PUT", "/volumes/$p", {"volume": {"name": LONG}}, 400, "EVS.1003", "256 bytes"),
    ("DELETE", f"/volumes/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("DELETE", "/volumes/$paired_p", None, 400, "EVS.1046", "$pair"),
    ("DELETE", "/volumes/$used", None, 400, "EVS.1046", "os-terminate_connection"),
    ("POST", "/volumes/$p/action", {}, 400, "EVS.5400", "exactly one"),
    ("POST", "/volumes/$p/action", {"os-fly": None}, 400, "EVS.5400", "os-initialize_connection"),
    *[
        ("POST", f"/volumes/{volume_id}/action", {"os-extend": value}, status, code, words)
        for volume_id, value, status, code, words in (
            ("$p", None, 400, "EVS.5400", "os-extend"),
            ("$p", {}, 400, "EVS.5400", "new_size"),
            ("$p", {"new_size": "2"}, 400, "EVS.5400", "new_size"),
            ("$p", {"new_size": True}, 400, "EVS.5400", "new_size"),
            ("$p", {"new_size": 1.5}, 400, "EVS.5400", "new_size"),
            ("$p", {"new_size": 0}, 400, "EVS.1010", "65536"),
            ("$p", {"new_size": 2**70}, 400, "EVS.1010", "65536"),
            ("$p", {"new_size": 1}, 400, "EVS.1015", "1 GiB"),
            ("$big", {"new_size": 1}, 400, "EVS.1015", "2 GiB"),
            ("$p", {"new_size": 400}, 400, "EVS.1010", "bytes free"),
            ("$p", {"new_size": 60_000}, 413, "EVS.1034", "quota"),
            ("$paired_p", {"new_size": 2}, 400, "EVS.1048", "$pair"),
            ("$paired_d", {"new_size": 2}, 400, "EVS.1048", "os-extend-replication-volumes"),
            ("$p", {"new_size": 2, "force": True}, 400, "EVS.5400", "force"),
            (NOBODY, {"new_size": 2}, 404, "EVS.5404", NOBODY),
        )
    ],
    *[
        ("POST", "/volumes/$p/action", {action: None}, 501, "EVS.5501", action)
        for action in (
            "os-reserve",
            "os-attach",
            "os-detach",
            "os-reset_status",
            "os-set_bootable",
            "os-retype",
            "revert",
        )
    ],
    ("POST", f"/volumes/{NOBODY}/action", {"os-reserve": None}, 404, "EVS.5404", NOBODY),
    # Metadata and tags
    *[
        (method, f"{path}{rest}", body, status, code, words)
        for method, path, rest, body, status, code, words in (
            ("GET", "/volumes/", f"{NOBODY}/metadata", None, 404, "EVS.5404", NOBODY),
            ("POST", "/volumes/", f"{NOBODY}/metadata", {"metadata": {}}, 404, "EVS.5404", NOBODY),
            ("POST", "/volumes/", "$p/metadata", {}, 400, "EVS.5400", "metadata"),
            ("POST", "/volumes/", "$p/metadata", {"metadata": {"a": 1}}, 400, "EVS.5400", "metadata"),
            ("PUT", "/volumes/", "$p/metadata", {"metadata": {"": "a"}}, 400, "EVS.5400", "empty key"),
            ("PUT", "/volumes/", "$p/metadata", {"metadata": {"a": "ü" * 128}}, 400, "EVS.1005", "256 bytes"),
            ("PUT", "/volumes/", "$p/metadata", {"metadata": {"ü" * 128: "a"}}, 400, "EVS.1005", "256 bytes"),
            ("PUT", "/volumes/", "$p/metadata", {"metadata": {str(n): "" for n in range(129)}}, 400, "EVS.1005", "128"),
            ("GET", "/volumes/", "$p/metadata/none", None, 404, "EVS.5404", "none"),
            ("DELETE", "/volumes/", "$p/metadata/none", None, 404, "EVS.5404", "none"),
            ("PUT", "/volumes/", "$p/metadata/a", {"meta": {"b": "c"}}, 400, "EVS.5400", "'a'"),
            ("PUT", "/volumes/", "$p/metadata/a", {"meta": {"a": "b", "b": "c"}}, 400, "EVS.5400", "'a'"),
            ("PUT", "/volumes/", "$p/metadata/a", {"meta": {"a": None}}, 400, "EVS.5400", "meta"),
            ("PATCH", "/volumes/", "$p/metadata", {}, 405, "EVS.5405", "GET, POST, PUT"),
            ("GET", TAGS, f"/{NOBODY}", None, 404, "EVS.5404", NOBODY),
            ("POST", TAGS, f"/{NOBODY}", {"tags": {}}, 404, "EVS.5404", NOBODY),
            ("POST", TAGS, "/$p", {"tags": {"a b": "c"}}, 400, "EVS.5400", "'a b'"),
            ("POST", TAGS, "/$p", {"tags": {"a": "b c"}}, 400, "EVS.5400", "'a'"),
            ("PUT", TAGS, "/$p", {"tags": {"a" * 37: "b"}}, 400, "EVS.5400", "36"),
            ("PUT", TAGS, "/$p", {"tags": {"a": "b" * 44}}, 400, "EVS.5400", "43"),
            ("PUT", TAGS, "/$p", {"tags": {f"a{n}": "" for n in range(11)}}, 400, "EVS.5400", "at most 10"),
            ("PUT", TAGS, "/$p/a", {"tag": {"b": "c"}}, 400, "EVS.5400", "'a'"),
            ("GET", TAGS, "/$p/a", None, 404, "EVS.5404", "'a'"),
            ("DELETE", TAGS, "/$p/a", None, 404, "EVS.5404", "'a'"),
            ("POST", TAGS, "/$p/action", {"os-dance": {}}, 400, "EVS.5400", "os-delete_tags"),
            ("POST", TAGS, "/$p/action", {"os-delete_tags": None}, 400, "EVS.5400", "os-delete_tags"),
            ("GET", TAGS, "/resource_instances?tags=[1]", None, 400, "EVS.5400", "tags must be"),
            ("GET", TAGS, "/resource_instances?not_tags={'a':'b'}", None, 400, "EVS.5400", "not_tags must be"),
            ("GET", TAGS, f"/resource_instances?tags_any={'(' * 3000}", None, 400, "EVS.5400", "tags_any must be"),
            ("GET", "/os-vendor-tags", "/snapshots", None, 501, "EVS.5501", "not offered"),
            ("GET", "/os-vendor-tags", "/backups/x/y", None, 501, "EVS.5501", "not offered"),
            ("GET", "/os-vendor-tags", "/pears", None, 404, "EVS.5404", "pears"),
        )
    ],
    # What is documented elsewhere
    ("GET", "/snapshots/detail", None, 501, "EVS.5501", "snapshots are not offered"),
    ("POST", "/backups", {"backup": {}}, 501, "EVS.5501", "backups are not offered"),
    ("GET", "/os-volume-transfer", None, 501, "EVS.5501", "os-volume-transfer are not offered"),
    ("GET", "/cloudvolumes/detail", None, 501, "EVS.5501", "cloudvolumes are not offered"),
    ("DELETE", f"/attachments/{NOBODY}", None, 501, "EVS.5501", "attachments are not offered"),
    ("POST", "/volumes/$p/action", {"os-initialize_connection": None}, 400, "EVS.5400", "os-initialize_connection"),
    ("POST", "/volumes/$p/action", {"os-initialize_connection": {"conector": {"host": "h"}}}, 400, "EVS.5400", "conec"),
    ("POST", "/volumes/$p/action", {"os-terminate_connection": {"host": "h"}}, 400, "EVS.5400", "host"),
    ("POST", "/volumes/$p/action", {"os-initialize_connection": {"connector": {}}}, 400, "EVS.5400", "host"),
    ("POST", "/volumes/$p/action", {"os-initialize_connection": {"connector": {"host": 3}}}, 400, "EVS.5400", "host"),
    ("POST", "/volumes/$p/action", {"os-initialize_connection": {"connector": {"host": ""}}}, 400, "EVS.5400", "host"),
    (
        "POST",
        "/volumes/$paired_d/action",
        {"os-initialize_connection": {"connector": {"host": "h"}}},
        400,
        "EVS.5400",
        "$pair",
    ),
    (
        "POST",
        "/volumes/$used/action",
        {"os-initialize_connection": {"connector": {"host": "h"}}},
        400,
        "EVS.5400",
        "host-1",
    ),
    ("POST", f"/volumes/{NOBODY}/action", {"os-terminate_connection": None}, 404, "EVS.5404", NOBODY),
    # Pairs
    ("POST", PAIRS, {}, 400, "EVS.5400", "replication"),
    ("POST", PAIRS, pair(volume_ids="$p,$d"), 400, "EVS.5400", "list"),
    ("POST", PAIRS, pair(volume_ids=["$p"]), 400, "EVS.5400", "two"),
    ("POST", PAIRS, pair(volume_ids=["$p", "$d", "$p2"]), 400, "EVS.5400", "two"),
    ("POST", PAIRS, pair("$p", "$p"), 400, "EVS.5400", "two different"),
    ("POST", PAIRS, pair("$p", NOBODY), 404, "EVS.5404", NOBODY),
    ("POST", PAIRS, pair("$p", "$p2"), 400, "EVS.1036", "both in az1"),
    ("POST", PAIRS, pair("$p", "$big"), 400, "EVS.1010", "37100041"),
    ("POST", PAIRS, pair("$p", "$sata"), 400, "EVS.1020", "SATA"),
    ("POST", PAIRS, pair("$p", "$shared"), 400, "EVS.5400", "multiattach"),
    ("POST", PAIRS, pair("$p", "$used"), 400, "EVS.5400", "37100058"),
    ("POST", PAIRS, pair("$paired_p", "$d"), 400, "EVS.5400", "37100053"),
    ("POST", PAIRS, pair("$p", "$paired_d"), 400, "EVS.5400", "37100054"),
    ("POST", PAIRS, pair(priority_station="az9"), 400, "EVS.1036", "az9"),
    ("POST", PAIRS, pair(priority_station=None), 400, "EVS.1036", "priority_station"),
    ("POST", PAIRS, pair(replication_model="async"), 400, "EVS.5400", "hypermetro"),
    ("POST", PAIRS, pair(name=LONG), 400, "EVS.1003", "256 bytes"),
    ("POST", PAIRS, pair(description=WIDE), 400, "EVS.1004", "256 bytes"),
    ("GET", f"{PAIRS}/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("DELETE", f"{PAIRS}/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("DELETE", f"{PAIRS}/$member", None, 400, "EVS.5400", "$group"),
    # Groups
    ("POST", GROUPS, {}, 400, "EVS.5400", "replication_consistency_group"),
    ("POST", GROUPS, group(), 400, "EVS.5400", "at least one pair"),
    ("POST", GROUPS, group(NOBODY), 404, "EVS.5404", NOBODY),
    ("POST", GROUPS, group("$pair", "$pair"), 400, "EVS.5400", "twice"),
    ("POST", GROUPS, group("$member"), 400, "EVS.5400", "$group"),
    ("POST", GROUPS, group("$pair", priority_station="az2"), 400, "EVS.1036", "az1"),
    ("POST", GROUPS, group("$pair", replication_model="async"), 400, "EVS.5400", "hypermetro"),
    ("POST", GROUPS, group("$pair", name=LONG), 400, "EVS.1003", "256 bytes"),
    ("POST", GROUPS, group(*["x"] * 300), 400, "EVS.5400", "twice"),
    ("POST", GROUPS, group(*[str(n) for n in range(300)]), 400, "EVS.5400", "256"),
    ("POST", GROUPS, group(*["x"] * 2000), 400, "EVS.5400", "replication_ids"),
    ("GET", f"{GROUPS}/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("PUT", f"{GROUPS}/{NOBODY}", change(), 404, "EVS.5404", NOBODY),
    ("PUT", f"{GROUPS}/$group", {}, 400, "EVS.5400", "replication_consistency_group"),
    ("PUT", f"{GROUPS}/$group", change(name=LONG), 400, "EVS.1003", "256 bytes"),
    ("PUT", f"{GROUPS}/$group", change(replication_model="x"), 400, "EVS.5400", "hypermetro"),
    ("PUT", f"{GROUPS}/$group", change(add_replication_ids=[NOBODY]), 404, "EVS.5404", NOBODY),
    ("PUT", f"{GROUPS}/$group", change(add_replication_ids=["$member"]), 400, "EVS.5400", "already"),
    ("PUT", f"{GROUPS}/$group", change(remove_replication_ids=["$pair"]), 400, "EVS.5400", "$pair"),
    ("DELETE", f"{GROUPS}/$group", None, 400, "EVS.5400", "remove_replication_ids"),
    ("DELETE", f"{GROUPS}/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    # Actions
    ("POST", f"{GROUPS}/{NOBODY}/action", {"os-sync-replication-consistency-group": None}, 404, "EVS.5404", NOBODY),
    ("POST", f"{GROUPS}/{NOBODY}/action", {"os-failover-replication-consistency-group": None}, 404, "EVS.5404", NOBODY),
    ("POST", ACTION, {}, 400, "EVS.5400", "exactly one"),
    ("POST", ACTION, [], 400, "EVS.5400", ""),
    ("POST", ACTION, {"os-dance": None}, 400, "EVS.5400", "os-sync-replication-consistency-group"),
    ("POST", ACTION, {"os-sync-replication-consistency-group": 1}, 400, "EVS.5400", "null"),
    ("POST", ACTION, {"os-sync-replication-consistency-group": None, "x": None}, 400, "EVS.5400", "2 keys"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": None}, 400, "EVS.5400", "is stale"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": {}}, 400, "EVS.5400", "is stale"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": {"force": False}}, 400, "EVS.5400", "is stale"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": {"force": None}}, 400, "EVS.5400", "is stale"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": {"force": 1}}, 400, "EVS.5400", "force"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": {"force": "true"}}, 400, "EVS.5400", "force"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": True}, 400, "EVS.5400", "force"),
    ("POST", ACTION, {"os-failover-replication-consistency-group": []}, 400, "EVS.5400", "force"),
    ("POST", ACTION, {"os-reverse-replication-consistency-group": None}, 400, "EVS.5400", "inactive"),
    ("POST", ACTION, {"os-reverse-replication-consistency-group": {"force": True}}, 400, "EVS.5400", "must be null"),
    ("POST", ACTION, {"os-reprotect-replication-consistency-group": None}, 400, "EVS.5400", "failovered"),
    *[
        ("POST", ACTION, {key: value}, 400, "EVS.5400", word)
        for key in (
            "os-sync-replication-consistency-group",
            "os-stop-replication-consistency-group",
            "os-failover-replication-consistency-group",
            "os-reverse-replication-consistency-group",
            "os-reprotect-replication-consistency-group",
            "os-extend-replication-volumes",
        )
        for value, word in (
            ({"forse": True}, key),
            ({"replications": [{"id": "$member", "new_size": 2, "sise": 3}]}, key),
            ({"id": "$member", "new_size": 2, "forse": True}, key),
            ({"Force": True, "priority_station": "az2"}, key),
            ({"": None}, key),
        )
    ],
    *[
        ("POST", ACTION, {"os-extend-replication-volumes": value}, status, code, words)
        for value, status, code, words in (
            (None, 400, "EVS.5400", "os-extend-replication-volumes"),
            ([], 400, "EVS.5400", "os-extend-replication-volumes"),
            ({}, 400, "EVS.5400", "id"),
            ({"replications": []}, 400, "EVS.5400", "at least one pair"),
            ({"replications": None}, 400, "EVS.5400", "replications"),
            ({"replications": [{"id": "$pair"}]}, 400, "EVS.5400", "new_size"),
            ({"id": "$member", "new_size": "2"}, 400, "EVS.5400", "new_size"),
            ({"id": "$member", "new_size": True}, 400, "EVS.5400", "new_size"),
            ({"id": "$member", "new_size": 1.5}, 400, "EVS.5400", "new_size"),
            ({"id": "$member", "new_size": 0}, 400, "EVS.1010", "$member"),
            ({"id": "$member", "new_size": 2**70}, 400, "EVS.1010", "65536"),
            ({"id": NOBODY, "new_size": 2}, 400, "EVS.5400", NOBODY),
            ({"id": "$pair", "new_size": 2}, 400, "EVS.5400", "is not in the group"),
            ({"replications": [{"id": "$member", "new_size": n} for n in (2, 3)]}, 400, "EVS.5400", "named twice"),
        )
    ],
    # Lists
    *[
        ("GET", f"{path}?{query}", None, 400, code, field)
        for path in ("/volumes", "/volumes/detail", PAIRS, GROUPS)
        for query, code, field in (
            ("limit=0", "EVS.1023", "1 to 1000"),
            ("limit=-1", "EVS.1023", "1 to 1000"),
            ("limit=1001", "EVS.1023", "1 to 1000"),
            ("limit=ten", "EVS.1023", "1 to 1000"),
            ("limit=99999999999999999999", "EVS.1023", "1 to 1000"),
            (f"marker={NOBODY}", "EVS.1024", NOBODY),
            ("marker=x", "EVS.1024", "x"),
            ("offset=-1", "EVS.5400", "offset"),
            ("offset=99999999999999999999", "EVS.5400", "offset"),
            ("sort_key=secret", "EVS.1039", "created_at"),
            ("sort_dir=up", "EVS.1040", "asc"),
            ("changes-since=yesterday", "EVS.5400", "changes-since"),
            ("name=%00", "EVS.5400", "NUL"),
        )
    ],
    *[
        ("GET", f"{path}?{query}", None, 400, code, field)
        for path, query, code, field in (
            ("/volumes", "status=bogus", "EVS.5400", "error_extending"),
            ("/volumes/detail", "status=", "EVS.5400", "status"),
            ("/volumes", "availability_zone=az9", "EVS.1036", "az1, az2"),
            (PAIRS, "status=in-use", "EVS.5400", "error_deleting"),
            (PAIRS, "replication_consistency_group_id=x", "EVS.5400", "UUIDs"),
            (GROUPS, "status=Available", "EVS.5400", "failovered"),
            (GROUPS, f"replication_consistency_group_id={NOBODY.replace('-', '')}", "EVS.5400", "UUIDs"),
            *[(path, "priority_station=zz", "EVS.1036", "az1, az2") for path in (PAIRS, GROUPS)],
            *[(path, "volume_id=x", "EVS.5400", "volume_id") for path in (PAIRS, GROUPS)],
            *[(path, "volume_ids=a,b,c", "EVS.5400", "one or two") for path in (PAIRS, GROUPS)],
            *[(path, f"volume_ids={NOBODY},", "EVS.5400", "UUIDs") for path in (PAIRS, GROUPS)],
            ("/os-vendor-traffic", "status=bogus", "EVS.5400", "failovered"),
            ("/os-vendor-audit-records", "all_projects=maybe", "EVS.5400", "true or false"),
            ("/os-vendor-audit-records", "result=good", "EVS.5400", "refused"),
            ("/os-quota-sets/x", "usage=maybe", "EVS.5400", "true or false"),
        )
    ],
    ("GET", "/volumes?metadata=[1]", None, 400, "EVS.5400", "metadata"),
    ("GET", f"/volumes?metadata={'(' * 3000}", None, 400, "EVS.5400", "metadata"),
    # Others
    ("GET", "/types/gold", None, 404, "EVS.5404", "gold"),
    ("GET", f"/os-quota-sets/{NOBODY}", None, 404, "EVS.5404", NOBODY),
    ("GET", "/nothing-here", None, 404, "EVS.5404", "nothing-here"),
    ("DELETE", "/volumes", None, 405, "EVS.5405", "GET, POST"),
    ("PUT", f"{PAIRS}/$pair", {}, 405, "EVS.5405", "GET, DELETE"),
    ("POST", f"{PAIRS}/$pair/action", {"x": None}, 404, "EVS.5404", "action"),
]

FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    404: "itemNotFound",
    405: "badMethod",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
}


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row[0]}-{row[4]}" for number, row in enumerate(ROWS)])
async def test_bad_requests(world: World, row: tuple[str, str, Any, int, str, str]) -> None:
    method, path, body, status, code, part = row
    answer = await world.site.call(method, world.fill(path), world.fill(body))
    assert answer.status_code == status, answer.text
    fault = answer.json()[FAULTS[status]]
    assert fault["code"] == status
    assert fault["message"].startswith(f"{code}: ")
    assert world.fill(part) in fault["message"]
    assert answer.headers["x-twinsite-error-code"] == code
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert await world.is_unchanged()


@pytest.mark.parametrize(
    ("content", "headers", "status", "part"),
    [
        (b"", {}, 400, "empty"),
        (b"  ", {}, 400, "empty"),
        (b"{", {}, 400, "line 1"),
        (b'{"volume": {"size": NaN}}', {}, 400, "NaN"),
        (b'{"volume": {"size": -Infinity}}', {}, 400, "Infinity"),
        (b'{"volume": {"size": 1' + b"0" * 5000 + b"}}", {}, 400, "digits"),
        (b"[" * 100_000, {}, 400, "values"),
        (b"[" * 40 + b"]" * 40, {}, 400, "deeper"),
        (b'{"volume": "\xff"}', {}, 400, "UTF-8"),
        (b'{"volume": {"size": 1, "name": "\\ud800"}}', {}, 400, "surrogate"),
        (b'{"volume": {"size": 1, "name": "a\\u0000b"}}', {}, 400, "NUL"),
        (b'{"volume": {"size": 1}}', {"content-type": "text/plain"}, 415, "application/json"),
        (b'{"volume": {"size": 1}}', {"content-type": "application/x-www-form-urlencoded"}, 415, "JSON"),
        (b'"' + b"x" * 1024 * 1024 + b'"', {}, 413, "1048576"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes) else None,
)
async def test_bad_bodies(world: World, content: bytes, headers: dict[str, str], status: int, part: str) -> None:
    url = f"/v3/{world.site.project_id}/volumes"
    headers = {"content-type": "application/json; charset=utf-8", **headers}
    answer = await world.site.http.post(url, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert part in answer.json()[FAULTS[status]]["message"]
    assert await world.is_unchanged()


async def test_a_long_body_that_hides_its_length_is_cut_off(world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    answer = await world.site.http.post(f"/v3/{world.site.project_id}/volumes", content=endless())
    assert answer.status_code == 413
    assert sent <= 2 * 1024 * 1024


@pytest.mark.parametrize("path", ["/volumes", PAIRS, GROUPS])
async def test_wrong_tokens(world: World, path: str) -> None:
    for token, code in (("", "Common.0013"), ("nonsense", "Common.0013"), ("ü", "Common.0013")):
        headers = {b"X-Auth-Token": token.encode()}
        answer = await world.site.http.get(f"/v2/{world.site.project_id}{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["unauthorized"]["message"].startswith(code)
        assert answer.headers["www-authenticate"].startswith("Keystone uri=")


@pytest.mark.parametrize("path", ["/volumes", PAIRS, GROUPS])
async def test_another_project_in_the_url(world: World, path: str) -> None:
    for project_id in (NOBODY, world.site.project_id.upper(), "%20"):
        answer = await world.site.http.get(f"/v2/{project_id}{path}")
        assert answer.status_code == 400
        assert answer.headers["x-twinsite-error-code"] == "Common.0018"


async def test_a_stranger_learns_nothing_from_a_bad_body(world: World) -> None:
    url = f"/v2/{world.site.project_id}{PAIRS}"
    answer = await world.site.http.post(url, content=b"{", headers={"X-Auth-Token": "x"})
    assert answer.status_code == 401


async def test_unknown_fields_are_tolerated(world: World) -> None:
    fields = {"size": 1, "availability_zone": "az1", "consistencygroup_id": None, "os:scheduler_hints": {"a": [1]}}
    answer = await world.site.call("POST", "/volumes", {"volume": fields, "OS-SCH-HNT:scheduler_hints": {}})
    assert answer.status_code == 202
    await world.site.settle()
    assert (await world.site.call("DELETE", f"/volumes/{answer.json()['volume']['id']}")).status_code == 202
    await world.site.settle()


async def test_a_number_without_a_fraction_is_an_integer(world: World) -> None:
    answer = await world.site.http.post(
        f"/v3/{world.site.project_id}/volumes",
        content=b'{"volume": {"size": 1.0, "availability_zone": "az1"}}',
        headers={"content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["volume"]["size"]) == (202, 1)
    await world.site.settle()
    assert (await world.site.call("DELETE", f"/volumes/{answer.json()['volume']['id']}")).status_code == 202
    await world.site.settle()


@pytest.mark.parametrize(
    "report",
    [
        {},
        [],
        {"site": "az2"},
        {"site": 1},
        {"site": "az1", "node_name": "n", "seen_generation": "1"},
    ],
    ids=json.dumps,
)
async def test_bad_reports(world: World, report: Any) -> None:
    token = (world.site.settings.secrets_dir / "node-token").read_text().strip()
    url = "/internal/v1/nodes/az1/sync"
    answer = await world.site.http.post(url, json=report, headers={"X-Twinsite-Node-Token": token})
    assert answer.status_code == 400
    for wrong in ({}, {"X-Twinsite-Node-Token": token[:-1]}):
        assert (await world.site.http.post(url, json=report, headers=wrong)).status_code == 401


async def test_a_report_of_an_unknown_site(world: World) -> None:
    node = world.site.az1
    token = (world.site.settings.secrets_dir / "node-token").read_text().strip()
    body = {**json.loads(json.dumps({"site": "az9", "node_name": node.site, "seen_generation": 0, "wait_seconds": 0}))}
    body |= {"pool": {"total_bytes": 1, "free_bytes": 1}, "volumes": [], "workers": []}
    answer = await world.site.http.post(
        "/internal/v1/nodes/az9/sync", json=body, headers={"X-Twinsite-Node-Token": token}
    )
    assert answer.status_code == 404
    assert "az1, az2" in answer.text
