"""Manual pages, made from the tree of commands: `python -m twinsite.cli.man DIRECTORY`.

One page of `twinsite`, one of each command, and one of each family of commands (`twinsite-group.1`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import typer.main

import twinsite
from twinsite.cli.errors import EXIT_USAGE
from twinsite.cli.examples import EXAMPLES, EXIT_STATUSES, LOGIN, statuses_of
from twinsite.cli.main import app

_HIDDEN = frozenset({"--help"})


def pages() -> dict[str, str]:
    """Return every page, by the name of its file."""
    root: Any = typer.main.get_command(app)
    made = {"twinsite.1": "\n".join(_root_page(root)) + "\n"}
    for name, command in root.commands.items():
        made[f"twinsite-{name}.1"] = "\n".join(_page(name, command)) + "\n"
    return made


def _root_page(root: Any) -> Iterator[str]:
    yield from _head("twinsite", "disaster recovery for groups of disks")
    yield from (".SH SYNOPSIS", r".B twinsite", r".I COMMAND \fR[\fIOPTION\fR ...]")
    yield from (".SH DESCRIPTION", roff(root.help))
    yield ".SH COMMANDS"
    for name, command in root.commands.items():
        yield from (".TP", rf"\fBtwinsite\-{roff(name)}\fR(1)", roff(_first_sentence(command)))
    yield ".SH OPTIONS"
    yield from _options(root)
    yield from (".SH ENVIRONMENT", roff(LOGIN))
    yield from _statuses(EXIT_STATUSES)


def _page(name: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", None)
    yield from _head(f"twinsite-{name}", _first_sentence(command).rstrip("."))
    if below is None:
        yield from (".SH SYNOPSIS", _usage(name, command), ".SH DESCRIPTION", *_paragraphs(command.help))
        yield ".SH OPTIONS"
        yield from _options(command)
        yield from (".SH EXAMPLE", ".EX", roff(EXAMPLES[name]), ".EE")
        yield from _statuses(statuses_of(name))
    else:
        yield ".SH SYNOPSIS"
        for number, (inner, item) in enumerate(below.items()):
            yield from ([".br"] if number else [])
            yield _usage(f"{name} {inner}", item)
        yield ".SH COMMANDS"
        for inner, item in below.items():
            yield from (rf".SS twinsite {roff(f'{name} {inner}')}", *_paragraphs(item.help))
            yield from _options(item)
            yield from (".P", "Example:", ".EX", roff(EXAMPLES[f"{name} {inner}"]), ".EE")
        wanted = set[int]().union(*(statuses_of(f"{name} {inner}") for inner in below))
        yield from _statuses({status: text for status, text in EXIT_STATUSES.items() if status in wanted})
    yield from (".SH SEE ALSO", r"\fBtwinsite\fR(1), for the variables that say who one is and where")


def _head(name: str, what: str) -> Iterator[str]:
    yield f'.TH {roff(name.upper())} 1 "" "Twinsite {twinsite.__version__}" "Twinsite"'
    yield from (".SH NAME", rf"{roff(name)} \- {roff(what)}")


def _usage(words: str, command: Any) -> str:
    parts = [rf"\fBtwinsite {roff(words)}\fR", r"[\fIOPTION\fR ...]"]
    for item in command.params:
        if item.param_type_name == "argument":
            place = rf"\fI{roff(item.metavar or item.name.upper())}\fR" + (" ..." if item.nargs == -1 else "")
            parts.append(place if item.required else f"[{place}]")
    return " ".join(parts)


def _options(command: Any) -> Iterator[str]:
    """Return the arguments and options, as --help lists them."""
    context: Any = typer.Context(command, info_name="twinsite")
    for item in command.params:
        record = item.get_help_record(context)
        if record is not None and _HIDDEN.isdisjoint(item.opts):
            yield from (".TP", rf"\fB{roff(record[0])}\fR", roff(record[1]))


def _statuses(statuses: Any) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, text in statuses.items():
        yield from (".TP", rf"\fB{status}\fR", roff(text))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        yield from ([".P"] if number else [])
        yield roff(" ".join(paragraph.split()))


def _first_sentence(command: Any) -> str:
    first = command.help.strip().split("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(first.split()))[0]


def roff(text: str) -> str:
    """Return a text as roff takes it, in one line."""
    plain = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


def write_pages(directory: Path) -> None:
    """Write every page into a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m twinsite.cli.man DIRECTORY\n")
        sys.exit(EXIT_USAGE)
    write_pages(Path(sys.argv[1]))
