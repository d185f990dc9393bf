"""The calls on the metadata of volumes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import quote

from twinsite.client.errors import ApiRefused
from twinsite.client.session import Session, exchange, fetch
from twinsite.client.steps import Plan

HTTP_NOT_FOUND = 404


def show_metadata(session: Session, volume_id: str) -> Plan[dict[str, str]]:
    """Return a volume's metadata."""
    return (yield from fetch(session, dict[str, str], "metadata", "GET", f"volumes/{volume_id}/metadata"))


def add_metadata(session: Session, volume_id: str, entries: Mapping[str, str]) -> Plan[dict[str, str]]:
    """Add entries to a volume's metadata, or change those that it has; return all of it then. Safe to repeat."""
    path, body = f"volumes/{volume_id}/metadata", {"metadata": dict(entries)}
    return (yield from fetch(session, dict[str, str], "metadata", "POST", path, body, repeatable=True))


def delete_metadata(session: Session, volume_id: str, keys: Collection[str]) -> Plan[None]:
    """Delete entries of a volume's metadata; those that it does not have are gone already. Safe to repeat."""
    for key in keys:
        try:
            yield from exchange(
                session, "DELETE", f"volumes/{volume_id}/metadata/{quote(key, safe='')}", repeatable=True
            )
        except ApiRefused as error:
            if error.status != HTTP_NOT_FOUND:
                raise
    yield from show_metadata(session, volume_id)  # Refused if it was the volume that was not found.
