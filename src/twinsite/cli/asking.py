"""Ask before what cannot be taken back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from twinsite.errors import ConfigurationError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes`. Raises `ConfigurationError` when there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody is there to answer; give --yes to do it")
    typer.confirm(question, abort=True)
