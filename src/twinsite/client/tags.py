"""The calls on tags of volumes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twinsite.client.session import Session, exchange, fetch
from twinsite.client.steps import Plan
from twinsite.errors import ConfigurationError

TAGS = "os-vendor-tags/volumes"


def show_tags(session: Session, volume_id: str) -> Plan[dict[str, str]]:
    """Return a volume's tags."""
    return (yield from fetch(session, dict[str, str], "tags", "GET", f"{TAGS}/{volume_id}"))


def add_tags(session: Session, volume_id: str, tags: Mapping[str, str]) -> Plan[dict[str, str]]:
    """Add tags to a volume, or change those that it has; return all that it has then. Safe to repeat."""
    body = {"tags": dict(tags)}
    return (yield from fetch(session, dict[str, str], "tags", "POST", f"{TAGS}/{volume_id}", body, repeatable=True))


def delete_tags(session: Session, volume_id: str, keys: Collection[str]) -> Plan[None]:
    """Delete tags of a volume; those that it does not have are gone already. Safe to repeat."""
    body = {"os-delete_tags": dict.fromkeys(keys, "")}
    yield from exchange(session, "POST", f"{TAGS}/{volume_id}/action", body, repeatable=True)


def tag_of(written: str) -> tuple[str, str]:
    """Return the key and the value of a tag as a person writes it, KEY=VALUE. Raises `ConfigurationError`."""
    key, separator, value = written.partition("=")
    if not key or not separator:
        raise ConfigurationError(f"{written!r}: write KEY=VALUE, for example owner=finance")
    return key, value
