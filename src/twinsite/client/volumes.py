"""The calls on volumes, and on what belongs to them: types, zones, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinsite.client.models import Connection, Volume, VolumeType, Zone
from twinsite.client.session import Session, exchange, fetch, fetch_all, fetch_list
from twinsite.client.steps import Plan


def list_volumes(
    session: Session, *, name: str | None = None, status: str | None = None, availability_zone: str | None = None
) -> Plan[list[Volume]]:
    """Return the project's volumes, all or those that fit, the newest first."""
    filters = given(name=name, status=status, availability_zone=availability_zone)
    return (yield from fetch_all(session, Volume, "volumes", "volumes/detail", filters))


def show_volume(session: Session, volume_id: str) -> Plan[Volume]:
    """Return one volume."""
    return (yield from fetch(session, Volume, "volume", "GET", f"volumes/{volume_id}"))


def create_volume(
    session: Session,
    *,
    size_gib: int,
    zone: str,
    name: str | None = None,
    description: str | None = None,
    volume_type: str | None = None,
    multiattach: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Plan[Volume]:
    """Order a volume of `size_gib` GiB in the availability zone `zone`; it is `creating`, then `available`."""
    optional = given(
        name=name, description=description, volume_type=volume_type, multiattach=multiattach, metadata=metadata
    )
    body = {"volume": {"size": size_gib, "availability_zone": zone, **optional}}
    return (yield from fetch(session, Volume, "volume", "POST", "volumes", body))


def update_volume(
    session: Session,
    volume_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Plan[Volume]:
    """Change what is given; `metadata` replaces all of it."""
    body = {"volume": given(name=name, description=description, metadata=metadata)}
    return (yield from fetch(session, Volume, "volume", "PUT", f"volumes/{volume_id}", body, repeatable=True))


def extend_volume(session: Session, volume_id: str, size_gib: int) -> Plan[None]:
    """Order a new size in GiB for a volume that is in no pair; it is `extending`, then as before. Safe to repeat."""
    body = {"os-extend": {"new_size": size_gib}}
    yield from exchange(session, "POST", f"volumes/{volume_id}/action", body, repeatable=True)


def delete_volume(session: Session, volume_id: str) -> Plan[None]:
    """Order the deletion of a volume. Refused while it is paired or attached."""
    yield from exchange(session, "DELETE", f"volumes/{volume_id}")


def connect_volume(session: Session, volume_id: str, host: str) -> Plan[Connection]:
    """Attach a volume to `host`, so that it is served, and return where. Safe to repeat."""
    body = {"os-initialize_connection": {"connector": {"host": host}}}
    path = f"volumes/{volume_id}/action"
    return (yield from fetch(session, Connection, "connection_info", "POST", path, body, repeatable=True))


def disconnect_volume(session: Session, volume_id: str, host: str) -> Plan[None]:
    """Detach a volume from `host`. Safe to repeat."""
    body = {"os-terminate_connection": {"connector": {"host": host}}}
    yield from exchange(session, "POST", f"volumes/{volume_id}/action", body, repeatable=True)


def list_volume_types(session: Session) -> Plan[list[VolumeType]]:
    """Return the types that a volume may have."""
    return (yield from fetch_list(session, VolumeType, "volume_types", "types"))


def list_zones(session: Session) -> Plan[list[Zone]]:
    """Return the availability zones, and which of them can be used now."""
    return (yield from fetch_list(session, Zone, "availabilityZoneInfo", "os-availability-zone"))


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {key: value for key, value in fields.items() if value is not None}
