"""Delete several objects at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twinsite.cli.asking import confirm_by_name
from twinsite.cli.output import Output, print_data


class Named(Protocol):
    """What has an id and may have a name."""

    @property
    def id(self) -> str:
        """Return the id."""

    @property
    def name(self) -> str | None:
        """Return the name."""


def delete_all(
    kind: str,
    items: Sequence[Named],
    order: Callable[[str], None],
    wait_until_gone: Callable[[str, float], None] | None,
    wait_seconds: float | None,
    *,
    yes: bool,
    output: Output,
) -> None:
    """Order the deletion of all objects, once a person has typed their name; then wait for each, if a time is given.

    `wait_until_gone` is None for what is gone at once.
    """
    found = list({item.id: item for item in items}.values())
    listed = ", ".join(item.name or item.id for item in found)
    several = f"{kind}s" if len(found) > 1 else kind
    confirm_by_name([item.name or item.id for item in found], f"Delete the {several} {listed} for good", yes)
    for item in found:
        order(item.id)
    if wait_until_gone is not None and wait_seconds is not None:
        for item in found:
            wait_until_gone(item.id, wait_seconds)
    if output.is_data:
        print_data(output, [item.id for item in found])
