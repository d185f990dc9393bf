"""Names for the shell to complete, asked of the API. Whatever goes wrong there are none: a shell shows no errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from twinsite.client.clients import Client

ANSWER_SECONDS_MAX = 3.0
"""Longest wait for an answer: somebody has pressed a key and waits."""

Complete = Callable[[typer.Context, str], list[str]]


def _names(
    context: typer.Context, beginning: str, listed: Callable[[Client], Iterable[tuple[str, str | None]]]
) -> list[str]:
    """Return the names that begin so, and the ids of what has no name of its own."""
    try:
        from twinsite.client.clients import Client  # noqa: PLC0415 - most completions need no client.
        from twinsite.client.cloud import find_cloud  # noqa: PLC0415

        data, cloud = context.params.get("data"), context.params.get("cloud")
        found = find_cloud(Path(data) if data else None, cloud, os.environ, Path.cwd())
        with Client(found, answer_seconds_max=ANSWER_SECONDS_MAX) as api:
            items = list(listed(api))
    except Exception:
        return []
    counts: dict[str | None, int] = {}
    for _, name in items:
        counts[name] = counts.get(name, 0) + 1
    words = {name if name and name.isprintable() and counts[name] == 1 else item_id for item_id, name in items}
    return sorted(word for word in words if word.startswith(beginning))


def complete_group(context: typer.Context, incomplete: str) -> list[str]:
    """Return the groups whose names begin so."""
    return _names(context, incomplete, lambda api: [(group.id, group.name) for group in api.groups()])


def complete_pair(context: typer.Context, incomplete: str) -> list[str]:
    """Return the pairs whose names begin so."""
    return _names(context, incomplete, lambda api: [(pair.id, pair.name) for pair in api.pairs()])


def complete_volume(context: typer.Context, incomplete: str) -> list[str]:
    """Return the volumes whose names begin so."""
    return _names(context, incomplete, lambda api: [(volume.id, volume.name) for volume in api.volumes()])


def complete_site(context: typer.Context, incomplete: str) -> list[str]:
    """Return the sites whose names begin so."""
    return _names(context, incomplete, lambda api: [(zone.name, zone.name) for zone in api.zones()])
