"""Find the object that a person means by an id, by a name, or by the beginning of an id."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol, TypeVar

from twinsite.client.errors import NotFound, ObjectMissing
from twinsite.client.groups import list_groups, show_group
from twinsite.client.models import Group, Pair, Volume, Webhook
from twinsite.client.pairs import list_pairs, show_pair
from twinsite.client.session import Session
from twinsite.client.steps import Plan
from twinsite.client.volumes import list_volumes, show_volume
from twinsite.client.webhooks import show_webhook, webhooks_named

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


def find_volume(session: Session, text: str) -> Plan[Volume]:
    """Return the volume that `text` means.

    A full id is looked up alone; else a name that fits exactly goes before the beginning of an id. Raises `NotFound`
    when nothing fits, or several do.
    """
    return (yield from _find("volume", text, session, show_volume, lambda name: list_volumes(session, name=name)))


def find_pair(session: Session, text: str) -> Plan[Pair]:
    """Return the pair that `text` means, as `find_volume` does."""
    return (yield from _find("pair", text, session, show_pair, lambda name: list_pairs(session, name=name)))


def find_group(session: Session, text: str) -> Plan[Group]:
    """Return the group that `text` means, as `find_volume` does; with its report."""
    return (yield from _find("group", text, session, show_group, lambda name: list_groups(session, name=name)))


def find_group_id(session: Session, text: str) -> Plan[str]:
    """Return the id of the group that `text` means. A full id is given back as it is: the group may be deleted."""
    if _is_full_id(text):
        return text.lower()
    return (yield from find_group(session, text)).id


def find_webhook(session: Session, text: str) -> Plan[Webhook]:
    """Return the webhook that `text` means, as `find_volume` does."""
    return (yield from _find("webhook", text, session, show_webhook, lambda name: webhooks_named(session, name)))


def _find(
    kind: str,
    text: str,
    session: Session,
    show: Callable[[Session, str], Plan[Item]],
    list_named: Callable[[str | None], Plan[list[Item]]],
) -> Plan[Item]:
    if _is_full_id(text):
        try:
            return (yield from show(session, text.lower()))
        except ObjectMissing as error:
            raise NotFound(f"no {kind} has the id {text}") from error
    matches = yield from list_named(text)
    if not matches and len(text) >= ID_PREFIX_LENGTH_MIN:
        everything = yield from list_named(None)
        matches = [item for item in everything if item.id.startswith(text.lower())]
    if len(matches) == 1:
        # A list may tell less than the object itself.
        return (yield from show(session, matches[0].id))
    if not matches:
        raise NotFound(f"no {kind} has the name or id {text!r}")
    named = ", ".join(f"{item.id} ({item.name})" for item in matches[:NAMED_OBJECTS_MAX])
    more = ", …" if len(matches) > NAMED_OBJECTS_MAX else ""
    raise NotFound(f"{text!r} means {len(matches)} {kind}s: {named}{more}. Give the id of one")


def _is_full_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
