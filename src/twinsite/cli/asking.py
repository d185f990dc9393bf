"""Ask before what cannot be taken back."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Annotated

import typer

from twinsite.errors import ConfigurationError, TwinsiteError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class NotAdmitted(TwinsiteError):
    """The plan of an action says that it would be refused, so it was not asked for."""


class NotConfirmed(TwinsiteError):
    """What a person typed is not what was asked for."""


def confirm_by_name(names: Collection[str], what: str, yes: bool) -> None:
    """Let a person type the name of what is about to be changed for good, or of several how many; unless `yes`.

    Raises `ConfigurationError` when there is nobody to ask, and `NotConfirmed` for anything else than that.
    """
    if yes:
        return
    expected = next(iter(names)) if len(names) == 1 else str(len(names))
    whose = f"the name {expected!r}" if len(names) == 1 else f"their number, {expected},"
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{what}? Nobody is there to type {whose} for it; give --yes to do it")
    typed = typer.prompt(f"{what}? Type {whose} to do it", prompt_suffix=": ", default="", show_default=False, err=True)
    if typed.strip() != expected:
        raise NotConfirmed("that is not it; nothing was done")


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes`. Raises `ConfigurationError` when there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody is there to answer; give --yes to do it")
    typer.confirm(question, abort=True)
