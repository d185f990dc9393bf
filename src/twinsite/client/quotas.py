"""The calls on quotas: what a project may have, and what it has."""

from __future__ import annotations

from twinsite.client.models import Model
from twinsite.client.session import Session, exchange, fetch, ready
from twinsite.client.steps import Plan
from twinsite.client.volumes import given

QUOTAS = "os-quota-sets"
UNLIMITED = -1
"""A limit that is none."""


class QuotaUse(Model):
    """The limit of one resource, -1 for none, and how much of it is in use."""

    limit: int
    in_use: int


class Quota(Model):
    """What a project may have. Sizes are in GiB; `id` is the project's."""

    id: str
    volumes: QuotaUse
    gigabytes: QuotaUse
    per_volume_gigabytes: QuotaUse
    replications: QuotaUse
    replication_consistency_groups: QuotaUse


def show_quota(session: Session, project_id: str | None = None) -> Plan[Quota]:
    """Return the quota of a project with what it uses; of one's own when it is left out."""
    path = yield from _path(session, project_id)
    return (yield from fetch(session, Quota, "quota_set", "GET", path, parameters={"usage": "True"}))


def change_quota(
    session: Session,
    project_id: str | None = None,
    *,
    volumes: int | None = None,
    gigabytes: int | None = None,
    per_volume_gigabytes: int | None = None,
    replications: int | None = None,
    replication_consistency_groups: int | None = None,
) -> Plan[Quota]:
    """Change the limits that are given, -1 for none; for administrators. Safe to repeat."""
    path = yield from _path(session, project_id)
    limits = given(
        volumes=volumes,
        gigabytes=gigabytes,
        per_volume_gigabytes=per_volume_gigabytes,
        replications=replications,
        replication_consistency_groups=replication_consistency_groups,
    )
    yield from exchange(session, "PUT", path, {"quota_set": limits}, repeatable=True)
    return (yield from show_quota(session, project_id))


def reset_quota(session: Session, project_id: str | None = None) -> Plan[Quota]:
    """Give a project the default limits again; for administrators. Safe to repeat."""
    path = yield from _path(session, project_id)
    yield from exchange(session, "DELETE", path, repeatable=True)
    return (yield from show_quota(session, project_id))


def _path(session: Session, project_id: str | None) -> Plan[str]:
    access = yield from ready(session)
    return f"{QUOTAS}/{project_id or access.endpoint.rpartition('/')[2]}"
