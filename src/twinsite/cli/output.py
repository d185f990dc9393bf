"""How results look: tables for people, JSON for programs, numbers with units."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from twinsite.amounts import format_bytes as format_bytes  # noqa: PLC0414 - who prints results finds the units here.
from twinsite.amounts import format_seconds as format_seconds  # noqa: PLC0414

if TYPE_CHECKING:
    from twinsite.client.models import Model

PIPE_WIDTH_COLUMNS = 240
"""Width of a table that goes into a pipe: ids must not be cut there."""


class Output(StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_data(self) -> bool:
        """Say whether a program reads it."""
        return self is not Output.TABLE


def console_for_results() -> Console:
    """Return a console on standard output that is wide enough when nobody looks at it."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH_COLUMNS, highlight=False, soft_wrap=False)


def console_for_progress(output: Output) -> Console:
    """Return where progress is shown: beside the result, and on standard error where a program reads that."""
    return Console(stderr=output.is_data, highlight=False)


def print_json(value: object) -> None:
    """Print the API's own object, indented."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_data(output: Output, value: object) -> None:
    """Print the API's own object as JSON or as YAML."""
    if output is Output.YAML:
        import yaml  # noqa: PLC0415 - few commands need it, and the start must be fast.

        typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
        return
    print_json(value)


def print_items(output: Output, items: Sequence[Model], columns: Mapping[str, str]) -> None:
    """Print a list of objects; `columns` maps each field to the heading of its column."""
    if output.is_data:
        print_data(output, [item.as_json() for item in items])
        return
    print_rows([{key: getattr(item, key) for key in columns} for item in items], columns)


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print a table; `columns` maps each key of a row to the heading of its column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    console_for_results().print(table)


def print_object(output: Output, item: Model, rows: Iterable[tuple[str, object]]) -> None:
    """Print one object: its `rows` of label and value for a person, all of it for a program."""
    if output.is_data:
        print_data(output, item.as_json())
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, _cell(value))
    console_for_results().print(table)


def format_time(moment: datetime) -> str:
    """Return a time in UTC as the API writes it, to the microsecond and without the zone."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, list):
        return "\n".join(str(item) for item in value) or "-"
    return str(value)
