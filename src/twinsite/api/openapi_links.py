"""Links between operations, for the OpenAPI document: what may be done with what a creation answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """An operation that takes the id of what was created: in the path, or in its query."""

    operation: str
    parameter: str
    where: str = "path"


_VOLUME = ("show_volume", "change_volume", "delete_volume", "act_on_volume", "show_metadata", "add_metadata")
_VOLUME_TAGS = ("show_tags", "add_tags", "replace_tags", "act_on_tags")
_GROUP = ("show_group", "change_group", "delete_group", "act_on_group", "list_events", "show_history")

_WEBHOOK = ("show_webhook", "delete_webhook", "act_on_webhook", "list_deliveries")

LINKS: Mapping[tuple[str, str], Sequence[Target]] = {
    ("create_volume", "volume"): [
        *(Target(name, "volume_id") for name in _VOLUME),
        *(Target(name, "volume_id") for name in _VOLUME_TAGS),
        Target("list_pairs", "volume_id", "query"),
        Target("list_groups", "volume_id", "query"),
        Target("list_volumes", "marker", "query"),
    ],
    ("create_pair", "replication"): [
        Target("show_pair", "replication_id"),
        Target("delete_pair", "replication_id"),
        Target("list_pairs", "marker", "query"),
    ],
    ("create_group", "replication_consistency_group"): [
        *(Target(name, "replication_consistency_group_id") for name in _GROUP),
        Target("list_pairs", "replication_consistency_group_id", "query"),
        Target("list_groups", "marker", "query"),
        Target("list_traffic", "marker", "query"),
    ],
    ("create_webhook", "webhook"): [Target(name, "webhook_id") for name in _WEBHOOK],
}
"""What the operations that create something lead to, by their names and the key of their answers."""


def add_links(document: Document) -> None:
    """Put the links into the answers of the operations that create something. Versions link to their own."""
    by_id = {operation["operationId"]: operation for item in document["paths"].values() for operation in item.values()}
    for identifier, operation in by_id.items():
        name, _, version = identifier.partition("__")
        for (creation, key), targets in LINKS.items():
            if creation == name:
                operation["responses"]["202"]["links"] = _links(by_id, key, targets, version)


def _links(by_id: Document, key: str, targets: Sequence[Target], version: str) -> Document:
    links: Document = {}
    for target in targets:
        identifier = next((i for i in (f"{target.operation}__{version}", target.operation) if i in by_id), None)
        if identifier is None:
            identifier = f"{target.operation}__v2"
        title = target.operation if target.where == "path" else f"{target.operation}_by_{target.parameter}"
        links[title] = {
            "operationId": identifier,
            "parameters": {
                "path.project_id": "$request.path.project_id",
                f"{target.where}.{target.parameter}": f"$response.body#/{key}/id",
            },
        }
    return links
