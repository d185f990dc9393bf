"""Objects as clients see them. Times are UTC without a zone: the Go SDK fails on any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from twinsite.control.lifecycle.advice import Advice
from twinsite.control.lifecycle.health import (
    GroupHealth,
    pair_replication_status,
    progress_percent,
)
from twinsite.control.lifecycle.lost_sites import ShownSite
from twinsite.control.lifecycle.proof import epoch_timestamp, proof_of, timestamp
from twinsite.control.lifecycle.states import PairStatus, ReplicationStatus
from twinsite.control.lifecycle.volumes import Connection
from twinsite.control.models import Group, Pair, Volume
from twinsite.messages import Failure, KeptLog, MemberStatus, ResyncReport, to_wire


def _failure(code: str | None, message: str | None) -> dict[str, str] | None:
    return None if code is None else {"code": code, "message": message or ""}


def volume_links(volume: Volume, url: str, version: str) -> list[dict[str, str]]:
    """Return the links to a volume; `url` is the API's own address."""
    return [
        {"rel": "self", "href": f"{url}/{version}/{volume.project_id}/volumes/{volume.id}"},
        {"rel": "bookmark", "href": f"{url}/{volume.project_id}/volumes/{volume.id}"},
    ]


def volume_view(volume: Volume, pair: Pair | None, url: str, version: str) -> dict[str, Any]:
    """Return a volume as Cinder shows it."""
    return {
        "id": volume.id,
        "name": volume.name,
        "description": volume.description,
        "status": volume.status,
        "size": volume.size_gib,
        "availability_zone": volume.site,
        "volume_type": volume.volume_type,
        "bootable": "false",
        "encrypted": False,
        "multiattach": volume.multiattach,
        "metadata": volume.user_metadata,
        "attachments": [
            {
                "id": volume.id,
                "attachment_id": attachment.id,
                "volume_id": volume.id,
                "server_id": None,
                "host_name": attachment.host,
                "device": None,
                "attached_at": timestamp(attachment.attached_at),
            }
            for attachment in volume.attachments
        ],
        "links": volume_links(volume, url, version),
        "snapshot_id": None,
        "source_volid": None,
        "consistencygroup_id": None,
        "replication_status": "disabled" if pair is None else "enabled",
        "created_at": timestamp(volume.created_at),
        "updated_at": timestamp(volume.updated_at),
        "user_id": volume.user_id,
        "os-vol-tenant-attr:tenant_id": volume.project_id,
        "twinsite": {
            "replication_id": None if pair is None else pair.id,
            "failure": _failure(volume.failure_code, volume.failure_message),
        },
    }


def connection_view(connection: Connection) -> dict[str, Any]:
    """Return how a host reaches a volume."""
    transports = [{"transport": _transport(uri), "uri": uri} for uri in connection.uris]
    return {
        "connection_info": {
            "driver_volume_type": "nbd",
            "data": {
                "volume_id": connection.volume_id,
                "export": connection.volume_id,
                "uri": connection.uris[0],
                "uris": connection.uris,
                "transports": transports,
            },
        }
    }


def _transport(uri: str) -> str:
    return {"nbd+unix": "unix", "nbd": "tcp", "nbds": "tls"}.get(urlsplit(uri).scheme, "other")


def pair_created_view(pair: Pair) -> dict[str, Any]:
    """Return a pair as it is right after its creation, whatever happened since."""
    return {**_pair_core(pair), "status": PairStatus.CREATING.value}


def _pair_core(pair: Pair) -> dict[str, Any]:
    ids = [pair.production_volume_id, pair.dr_volume_id]
    return {
        "id": pair.id,
        "name": pair.name,
        "description": pair.description,
        "status": pair.status,
        "replication_consistency_group_id": pair.group_id,
        "volume_ids": ",".join(ids if pair.production_first else reversed(ids)),
        "priority_station": pair.priority_station,
        "created_at": timestamp(pair.created_at),
        "updated_at": timestamp(pair.updated_at),
    }


def pair_view(pair: Pair, health: GroupHealth | None) -> dict[str, Any]:
    """Return a pair; `health` is that of its group, None outside any group."""
    volume = pair.production_volume
    status = ReplicationStatus.INACTIVE
    percent: int | None = None
    failure = f"{pair.failure_code}: {pair.failure_message}" if pair.failure_code else None
    if health is not None:
        status = pair_replication_status(health, pair.production_volume_id, pair.dr_volume_id)
        member = health.members.get(pair.production_volume_id)
        if member is not None:
            percent = progress_percent(status, member.resync_bytes_done, member.resync_bytes_total)
        found = _pair_failure(pair, health)
        if failure is None and found is not None:
            failure = f"{found.code}: {found.message}"
    record = {"volume_size": volume.size_gib, "volume_type": volume.volume_type, "multiattach": volume.multiattach}
    return {
        **_pair_core(pair),
        "replication_model": pair.replication_model,
        "replication_status": status.value,
        "progress": None if percent is None else str(percent),
        "failure_detail": failure,
        "record_metadata": json.dumps(record),
        "fault_level": "0" if health is None else health.fault_level,
    }


def _pair_failure(pair: Pair, health: GroupHealth) -> Failure | None:
    failures = health.member_failures
    own = failures.get(pair.production_volume_id) or failures.get(pair.dr_volume_id)
    # When single members fail, the group's failure is theirs and not that of the others.
    return own or (None if failures else health.failure)


def group_view(group: Group, health: GroupHealth, status: str | None = None) -> dict[str, Any]:
    """Return a group as lists show it; `status` takes the place of its own when given."""
    failure = f"{group.failure_code}: {group.failure_message}" if group.failure_code else None
    if failure is None and health.failure is not None:
        failure = f"{health.failure.code}: {health.failure.message}"
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "status": status or group.status,
        "priority_station": group.priority_station,
        "replication_model": group.replication_model,
        "replication_status": health.replication_status.value,
        "replication_ids": [pair.id for pair in group.pairs],
        "failure_detail": failure,
        "fault_level": health.fault_level,
        "created_at": timestamp(group.created_at),
        "updated_at": timestamp(group.updated_at),
    }


def group_full_view(group: Group, health: GroupHealth, advice: Sequence[Advice]) -> dict[str, Any]:
    """Return a group with everything that its workers say of it."""
    worker = health.status
    resync = worker.resync if worker is not None else None
    return {
        **group_view(group, health),
        "twinsite": {
            "mode": worker.mode.value if worker is not None else None,
            "replication": group.replication,
            **proof_of(group, health),
            "failure": to_wire(health.failure) if health.failure is not None else None,
            "progress": progress_view(health),
            "dirty_bytes": worker.dirty_bytes if worker is not None else 0,
            "last_resync": _resync_view(resync),
            "counters": to_wire(worker.counters) if worker is not None else None,
            "members": [_member_view(pair, health) for pair in group.pairs],
            "kept_writes": [
                *_kept_view(group.priority_station, health.kept_at_primary),
                *_kept_view(group.secondary_station, health.kept_at_secondary),
            ],
            "advice": advice_view(advice),
        },
    }


def _kept_view(site: str, logs: Sequence[KeptLog]) -> list[dict[str, Any]]:
    return [
        {"site": site, "path": log.path, "overwritten_at": epoch_timestamp(log.point_at), "size_bytes": log.size_bytes}
        for log in logs
    ]


def advice_view(advice: Sequence[Advice]) -> list[dict[str, str | None]]:
    """Return what is the matter with a group, the worst first."""
    return [{"severity": item.severity.value, "text": item.text, "command": item.command} for item in advice]


def progress_view(health: GroupHealth) -> dict[str, Any]:
    """Return how far the resync of a group is."""
    resync = health.status.resync if health.status is not None else None
    members = list(health.members.values())
    total = sum(member.resync_bytes_total for member in members)
    done = sum(member.resync_bytes_done for member in members)
    if total == 0 and resync is not None:
        total, done = resync.bytes_total, resync.bytes_done
    running = resync if resync is not None and resync.finished_at is None else None
    return {
        "bytes_total": total,
        "bytes_done": done,
        "percent": progress_percent(health.replication_status, done, total),
        "bytes_per_second": running.bytes_per_second if running is not None else None,
        "seconds_left": running.seconds_left if running is not None else None,
    }


def _resync_view(resync: ResyncReport | None) -> dict[str, Any] | None:
    if resync is None:
        return None
    view: dict[str, Any] = to_wire(resync)
    view["started_at"] = epoch_timestamp(resync.started_at)
    view["finished_at"] = epoch_timestamp(resync.finished_at)
    return view


def _member_view(pair: Pair, health: GroupHealth) -> dict[str, Any]:
    status = health.members.get(pair.production_volume_id, MemberStatus(pair.production_volume_id, False))
    failure = health.member_failures.get(pair.production_volume_id) or health.member_failures.get(pair.dr_volume_id)
    return {
        "replication_id": pair.id,
        "production_volume_id": pair.production_volume_id,
        "dr_volume_id": pair.dr_volume_id,
        "index": pair.member_index,
        "serving": status.serving,
        "replication_status": pair_replication_status(health, pair.production_volume_id, pair.dr_volume_id).value,
        "bytes_total": status.resync_bytes_total,
        "bytes_done": status.resync_bytes_done,
        "dirty_bytes": status.dirty_bytes,
        "failure": to_wire(failure) if failure is not None else None,
    }


def site_view(site: ShownSite) -> dict[str, Any]:
    """Return a site as administrators see it."""
    return {
        "name": site.name,
        "connected": site.is_connected,
        "node_name": site.node_name,
        "last_seen_at": timestamp(site.last_seen_at),
        "lost_at": timestamp(site.lost_at),
        "pool_total_bytes": site.pool_total_bytes,
        "pool_free_bytes": site.pool_free_bytes,
        "volumes": site.volumes,
        "to_remove": site.to_remove,
    }
