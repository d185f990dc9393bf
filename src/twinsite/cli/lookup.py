"""Find the object that a user means by an id, the beginning of an id, or a name."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol, TypeVar

from twinsite.cli.errors import NotFound
from twinsite.client.errors import ObjectMissing

ID_PREFIX_LENGTH_MIN = 4
"""Shortest beginning of an id that counts, so that a mistyped name does not hit an id by chance."""
NAMED_OBJECTS_MAX = 5
"""Most objects that a message lists."""


class Named(Protocol):
    """What has an id and may have a name."""

    @property
    def id(self) -> str:
        """Return the id."""

    @property
    def name(self) -> str | None:
        """Return the name."""


Item = TypeVar("Item", bound=Named)


def find(kind: str, text: str, show: Callable[[str], Item], list_all: Callable[[], list[Item]]) -> Item:
    """Return the one object of `kind` ("volume", "pair", "group") that `text` means.

    A full id is looked up alone; else a name that fits exactly goes before the beginning of an id. Raises `NotFound`
    when nothing fits or several do.
    """
    if _is_full_id(text):
        try:
            return show(text.lower())
        except ObjectMissing as error:
            raise NotFound(f"no {kind} has the id {text}; see 'twinsite {kind} list'") from error
    items = list_all()
    matches = [item for item in items if item.name == text]
    if not matches and len(text) >= ID_PREFIX_LENGTH_MIN:
        matches = [item for item in items if item.id.startswith(text.lower())]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise NotFound(f"no {kind} has the name or id {text!r}; see 'twinsite {kind} list'")
    named = ", ".join(f"{item.id} ({item.name})" for item in matches[:NAMED_OBJECTS_MAX])
    more = ", …" if len(matches) > NAMED_OBJECTS_MAX else ""
    raise NotFound(f"{text!r} means {len(matches)} {kind}s: {named}{more}. Give the id of one")


def _is_full_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
