"""What a primary says of its members and of its resync, in the words of the status."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from twinsite.core.group.primary import Primary
from twinsite.messages import MemberStatus, ResyncReport, WorkerSpec
from twinsite.worker.mirrored_device import MirroredDevice


@dataclass(slots=True)
class ResyncTimes:
    """When the running or the last resync began and ended, in seconds since the epoch."""

    started_at: float | None = None
    finished_at: float | None = None

    def start(self) -> None:
        """A resync begins."""
        self.started_at, self.finished_at = time.time(), None

    def finish(self) -> None:
        """It has ended well."""
        self.finished_at = time.time()


def member_statuses(spec: WorkerSpec, machine: Primary, devices: Mapping[str, MirroredDevice]) -> list[MemberStatus]:
    """Return the members' status, in the order of the spec. Whether they are served is the worker's to say."""
    statuses = []
    for member_spec in spec.members:
        member = machine.members[member_spec.index]
        left = machine.resync_bytes_left(member)
        statuses.append(
            MemberStatus(
                volume_id=member_spec.volume_id,
                serving=False,
                resync_bytes_total=member.resync_bytes_total,
                resync_bytes_done=max(0, member.resync_bytes_total - left),
                dirty_bytes=member.differing_bytes(),
                failure=devices[member_spec.volume_id].failure,
            )
        )
    return statuses


def resync_report(machine: Primary, times: ResyncTimes, *, is_running: bool) -> ResyncReport | None:
    """Return the running or the last resync, or None before the first."""
    tally = machine.tally
    if tally is None or times.started_at is None:
        return None
    left = 0
    if times.finished_at is None:
        left = sum(machine.resync_bytes_left(member) for member in machine.members.values())
    done = max(0, tally.bytes_total - left)
    seconds = max((times.finished_at or time.time()) - times.started_at, 1e-3)
    rate = done / seconds
    return ResyncReport(
        kind=tally.kind,
        started_at=times.started_at,
        finished_at=times.finished_at,
        bytes_total=tally.bytes_total,
        bytes_done=done,
        bytes_shipped=tally.bytes_shipped,
        bytes_zero=tally.bytes_zero,
        bytes_per_second=rate,
        seconds_left=left / rate if rate and is_running else None,
        bytes_compared=tally.bytes_compared,
    )
