"""How the commands show objects, how they follow what was ordered, and the options that they share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cliff import columns
from osc_lib.cli import format_columns
from rich.console import Console

from twinsite.cli.output import format_bytes
from twinsite.cli.progress import show_sync
from twinsite.client import Client
from twinsite.client.models import Group, Model, Pair
from twinsite.client.waiting import WAIT_SECONDS_DEFAULT

Columns = tuple[tuple[str, ...], tuple[Any, ...]]

PAIR_COLUMNS = ("id", "name", "status", "replication_status", "progress", "priority_station", "group_id")
GROUP_COLUMNS = ("id", "name", "status", "replication_status", "priority_station", "fault_level")


def client_of(command: Any) -> Client:
    """Return the client that `plugin.make_client` made for a command."""
    client: Client = command.app.client_manager.evs
    return client


def pair_fields(pair: Pair) -> dict[str, Any]:
    """Return what is shown of a pair."""
    fields = pair.as_json()
    fields["group_id"] = fields.pop("replication_consistency_group_id", None)
    fields["volume_ids"] = format_columns.ListColumn(pair.volume_ids)
    return fields


def group_fields(group: Group) -> dict[str, Any]:
    """Return what is shown of a group: its own fields, and of its report what decides about a failover."""
    fields = group.as_json()
    report = fields.pop("twinsite", None)
    fields["replication_ids"] = format_columns.ListColumn(group.replication_ids)
    if report is not None:
        for name in ("mode", "term", "secondary_station", "secondary", "stale_since", "in_sync_since", "dirty_bytes"):
            fields[name] = report[name]
        fields["failover"] = _Failover(report["failover"])
        fields["progress"] = _Progress(report["progress"])
        fields["last_resync"] = _Resync(report["last_resync"])
    return fields


class _Failover(columns.FormattableColumn[Any]):
    """A sentence for people, the API's object for programs."""

    def human_readable(self) -> str:
        if self._value["possible"]:
            return "possible, loses nothing"
        loss = self._value["loss"]
        return f"refused: {self._value['reason']}" if loss is None else f"would lose {loss['description']}"


class _Progress(columns.FormattableColumn[Any]):
    def human_readable(self) -> str:
        done, total = format_bytes(self._value["bytes_done"]), format_bytes(self._value["bytes_total"])
        percent = self._value["percent"]
        return "" if percent is None else f"{percent} %, {done} of {total}"


class _Resync(columns.FormattableColumn[Any]):
    def human_readable(self) -> str:
        if self._value is None:
            return ""
        total, sent = format_bytes(self._value["bytes_total"]), format_bytes(self._value["bytes_shipped"])
        return f"{self._value['kind']}, {total}: {sent} sent, {format_bytes(self._value['bytes_zero'])} empty"


def one(fields: dict[str, Any]) -> Columns:
    """Return an object for `ShowOne`, its fields in the order of their names."""
    names = tuple(sorted(fields))
    return names, tuple(fields[name] for name in names)


def listed(
    items: Sequence[Model], fields_of: Callable[[Any], dict[str, Any]], names: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return objects for `Lister`, with headings as openstackclient has them."""
    headings = tuple(" ".join("ID" if part == "id" else part.title() for part in name.split("_")) for name in names)
    return headings, [tuple(fields_of(item).get(name) for name in names) for item in items]


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that can wait for what they order."""
    parser.add_argument("--wait", action="store_true", help="Return when it is done, not when it is ordered")
    parser.add_argument(
        "--timeout",
        metavar="<seconds>",
        type=float,
        default=WAIT_SECONDS_DEFAULT,
        help=f"Longest wait, in seconds (default: {WAIT_SECONDS_DEFAULT:g})",
    )


@contextlib.contextmanager
def statuses_shown() -> Iterator[Callable[[Any], None]]:
    """Yield a function that tells each new status, on standard error: standard output is for the result."""
    console, last = Console(stderr=True, highlight=False), [""]

    def tell(item: Pair | Group) -> None:
        if item.status != last[0]:
            last[0] = item.status
            console.print(item.status)

    yield tell


@contextlib.contextmanager
def sync_shown() -> Iterator[Callable[[Group], None]]:
    """Yield a function that shows how far a synchronization is, on standard error."""
    with show_sync(Console(stderr=True, highlight=False)) as update:
        yield update
