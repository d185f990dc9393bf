"""State tables of volumes, pairs and groups: pure, so that a test can walk over every status and every event.

The words are those of the EVS API reference. A transitional status admits only reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from twinsite.control.refusals import wrong_state


class VolumeStatus(StrEnum):
    """Status of a volume."""

    CREATING = "creating"
    AVAILABLE = "available"
    IN_USE = "in-use"
    ERROR = "error"
    DELETING = "deleting"
    EXTENDING = "extending"
    ERROR_EXTENDING = "error_extending"  # The extension was undone: the volume is as it was before.


class PairStatus(StrEnum):
    """Status of a pair."""

    CREATING = "creating"
    AVAILABLE = "available"
    ERROR = "error"
    DELETING = "deleting"
    ERROR_DELETING = "error_deleting"


class GroupStatus(StrEnum):
    """Status of a group."""

    CREATING = "creating"
    AVAILABLE = "available"
    ERROR = "error"
    DELETING = "deleting"
    ERROR_DELETING = "error_deleting"
    UPDATING = "updating"
    REVERSING = "reversing"
    ERROR_REVERSING = "error_reversing"
    FAILING_OVER = "failovering"
    FAILED_OVER = "failovered"
    ERROR_FAILING_OVER = "error_failovering"


class ReplicationStatus(StrEnum):
    """Whether the DR side is current."""

    ACTIVE = "active"  # Running, consistent.
    ACTIVE_STOPPED = "active-stopped"  # Paused, consistent.
    COPYING = "copying"
    INACTIVE = "inactive"  # Paused or interrupted; needs sync.
    ERROR = "error"


REPLICATION_STATUS_WORST_FIRST = (
    ReplicationStatus.ERROR,
    ReplicationStatus.COPYING,
    ReplicationStatus.INACTIVE,
    ReplicationStatus.ACTIVE_STOPPED,
    ReplicationStatus.ACTIVE,
)
"""A group's replication status is the worst of its members'."""


class VolumeCall(StrEnum):
    """What a client may ask of a volume, beyond reading and renaming it."""

    DELETE = "delete"
    PAIR = "be paired"
    CONNECT = "be connected"
    DISCONNECT = "be disconnected"
    EXTEND = "extend"


class GroupCall(StrEnum):
    """What a client may ask of a group, beyond reading it."""

    SYNC = "sync"
    STOP = "stop"
    UPDATE = "update"
    DELETE = "delete"
    FAIL_OVER = "fail over"
    REVERSE = "reverse"
    REPROTECT = "reprotect"
    EXTEND = "extend"


VOLUME_ADMITS: Mapping[VolumeCall, frozenset[VolumeStatus]] = {
    VolumeCall.DELETE: frozenset({VolumeStatus.AVAILABLE, VolumeStatus.ERROR, VolumeStatus.ERROR_EXTENDING}),
    VolumeCall.PAIR: frozenset({VolumeStatus.CREATING, VolumeStatus.AVAILABLE, VolumeStatus.IN_USE}),
    VolumeCall.CONNECT: frozenset({VolumeStatus.AVAILABLE, VolumeStatus.IN_USE, VolumeStatus.ERROR_EXTENDING}),
    VolumeCall.DISCONNECT: frozenset(
        {
            VolumeStatus.AVAILABLE,
            VolumeStatus.IN_USE,
            VolumeStatus.ERROR,
            VolumeStatus.EXTENDING,
            VolumeStatus.ERROR_EXTENDING,
        }
    ),
    VolumeCall.EXTEND: frozenset({VolumeStatus.AVAILABLE, VolumeStatus.IN_USE, VolumeStatus.ERROR_EXTENDING}),
}

PAIR_DELETABLE: frozenset[PairStatus] = frozenset({PairStatus.AVAILABLE, PairStatus.ERROR})

_GROUP_SETTLED = frozenset(
    {
        GroupStatus.AVAILABLE,
        GroupStatus.ERROR,
        GroupStatus.FAILED_OVER,
        GroupStatus.ERROR_FAILING_OVER,
        GroupStatus.ERROR_REVERSING,
    }
)

GROUP_ADMITS: Mapping[GroupCall, frozenset[GroupStatus]] = {
    GroupCall.SYNC: frozenset(
        {GroupStatus.AVAILABLE, GroupStatus.ERROR, GroupStatus.FAILED_OVER, GroupStatus.ERROR_REVERSING}
    ),
    GroupCall.STOP: _GROUP_SETTLED,
    GroupCall.UPDATE: frozenset({GroupStatus.AVAILABLE, GroupStatus.ERROR}),
    GroupCall.DELETE: frozenset({GroupStatus.AVAILABLE, GroupStatus.ERROR}),
    GroupCall.FAIL_OVER: frozenset(
        {GroupStatus.AVAILABLE, GroupStatus.ERROR_FAILING_OVER, GroupStatus.ERROR_REVERSING}
    ),
    GroupCall.REVERSE: frozenset({GroupStatus.AVAILABLE, GroupStatus.ERROR_REVERSING}),
    GroupCall.REPROTECT: frozenset({GroupStatus.FAILED_OVER}),
    GroupCall.EXTEND: frozenset({GroupStatus.AVAILABLE}),
}

_WAY_OUT_OF_VOLUME: Mapping[VolumeStatus, str] = {
    VolumeStatus.CREATING: "Wait until it is available.",
    VolumeStatus.IN_USE: "Disconnect its hosts first (os-terminate_connection).",
    VolumeStatus.ERROR: "Its failure is in the node's log; repair the storage, or delete the volume.",
    VolumeStatus.DELETING: "It is on its way out; use another volume.",
    VolumeStatus.EXTENDING: "Wait until it has its new size.",
    VolumeStatus.ERROR_EXTENDING: "Extend it again (os-extend), to its present size to leave it as it is.",
}

_SYNC = "os-sync-replication-consistency-group"
_REPROTECT = "os-reprotect-replication-consistency-group"
_WAY_OUT_OF_GROUP: Mapping[GroupStatus, str] = {
    GroupStatus.CREATING: "Wait until it is available.",
    GroupStatus.ERROR: "Repair what failure_detail names; then it is available again by itself.",
    GroupStatus.UPDATING: "Wait until it is available.",
    GroupStatus.REVERSING: "Wait until the switchover is over, and see which site is primary then.",
    GroupStatus.FAILING_OVER: f"Wait until the failover is over, then protect it in its new direction ({_REPROTECT}).",
    GroupStatus.DELETING: "It is on its way out; use another group.",
    GroupStatus.ERROR_DELETING: "It could not be deleted, for the reason that failure_detail names.",
    GroupStatus.FAILED_OVER: f"Protect it in its new direction first ({_REPROTECT}).",
    GroupStatus.ERROR_FAILING_OVER: "Repeat the failover first (os-failover-replication-consistency-group).",
    GroupStatus.ERROR_REVERSING: f"Synchronize it first ({_SYNC}).",
}
"""What to do in a status that does not admit a call, if nothing else is said of that call."""

_NOT_FAILED_OVER = "It was not failed over, so there is nothing to reprotect"
_WAIT_AND_SYNC = f"{_NOT_FAILED_OVER}. Wait until it is available, then synchronize it ({_SYNC})."
_WAY_TO: Mapping[tuple[GroupStatus, GroupCall], str] = {
    (GroupStatus.AVAILABLE, GroupCall.REPROTECT): f"{_NOT_FAILED_OVER}: synchronize it ({_SYNC}).",
    (GroupStatus.ERROR, GroupCall.REPROTECT): f"{_NOT_FAILED_OVER}: synchronize it ({_SYNC}).",
    (GroupStatus.ERROR_REVERSING, GroupCall.REPROTECT): f"{_NOT_FAILED_OVER}: synchronize it ({_SYNC}).",
    (GroupStatus.CREATING, GroupCall.REPROTECT): _WAIT_AND_SYNC,
    (GroupStatus.UPDATING, GroupCall.REPROTECT): _WAIT_AND_SYNC,
    (GroupStatus.REVERSING, GroupCall.REPROTECT): _WAIT_AND_SYNC,
    (GroupStatus.FAILING_OVER, GroupCall.SYNC): "Wait until the failover is over.",
    (GroupStatus.FAILING_OVER, GroupCall.STOP): "Wait until the failover is over.",
    (GroupStatus.FAILING_OVER, GroupCall.REPROTECT): "Wait until the failover is over.",
}
"""What to do for one call in one status."""

_TO_DO: Mapping[GroupCall, str] = {GroupCall.FAIL_OVER: "fail it over"}

_WAY_OUT_OF_PAIR: Mapping[PairStatus, str] = {
    PairStatus.CREATING: "Wait until it is available.",
    PairStatus.ERROR: "Repair its disks, as failure_detail says, or delete it and pair others.",
    PairStatus.DELETING: "It is on its way out; use another pair.",
    PairStatus.ERROR_DELETING: "It could not be deleted, for the reason that failure_detail names.",
}

_WAY_TO_ACTIVE: Mapping[ReplicationStatus, str] = {
    ReplicationStatus.COPYING: "Wait until it is active.",
    ReplicationStatus.ERROR: f"Repair what failure_detail names, then synchronize it ({_SYNC}).",
}


def way_out_of_group(status: GroupStatus, call: GroupCall) -> str:
    """Return what to do about a group whose status does not admit a call: a sentence with a step that it admits."""
    return _WAY_TO.get((status, call)) or _WAY_OUT_OF_GROUP[status]


def way_to_active(status: ReplicationStatus) -> str:
    """Return what to do about a group whose replication is not active, in a sentence."""
    return _WAY_TO_ACTIVE.get(status, f"Synchronize it first ({_SYNC}).")


def way_to_delete_pair(group_id: str | None) -> str:
    """Return how a pair that may be in a group comes to be deleted, in a sentence."""
    if group_id is None:
        return "Delete the pair first."
    return (
        f"The pair is in the replication consistency group {group_id}: pause that "
        "(os-stop-replication-consistency-group), remove the pair from it (PUT with remove_replication_ids), and "
        "delete the pair first."
    )


_CODES_OF_VOLUME_CALLS: Mapping[VolumeCall, str] = {VolumeCall.DELETE: "EVS.1046", VolumeCall.EXTEND: "EVS.1048"}


def admit_volume(volume_id: str, status: str, call: VolumeCall) -> None:
    """Refuse (400) what the volume's status does not allow."""
    allowed = VOLUME_ADMITS[call]
    if status not in allowed:
        code = _CODES_OF_VOLUME_CALLS.get(call, "EVS.5400")
        way_out = _WAY_OUT_OF_VOLUME[VolumeStatus(status)]
        raise wrong_state("volume", volume_id, status, allowed, f"To {call}: {way_out}", code)


def admit_pair_delete(pair_id: str, status: str) -> None:
    """Refuse (400) to delete a pair whose status does not allow it."""
    if status not in PAIR_DELETABLE:
        raise wrong_state(
            "replication pair", pair_id, status, PAIR_DELETABLE, f"To delete it: {_WAY_OUT_OF_PAIR[PairStatus(status)]}"
        )


def admit_available_pair(pair_id: str, status: str, code: str = "EVS.5400") -> None:
    """Refuse (400) what needs a pair that is available."""
    if status != PairStatus.AVAILABLE:
        way_out = _WAY_OUT_OF_PAIR[PairStatus(status)]
        raise wrong_state("replication pair", pair_id, status, {PairStatus.AVAILABLE}, way_out, code)


def admit_group(group_id: str, status: str, call: GroupCall) -> None:
    """Refuse (400) what the group's status does not allow."""
    allowed = GROUP_ADMITS[call]
    if status not in allowed:
        way_out = way_out_of_group(GroupStatus(status), call)
        raise wrong_state(
            "replication consistency group",
            group_id,
            status,
            allowed,
            f"To {_TO_DO.get(call, f'{call} it')}: {way_out}",
            "EVS.1048" if call is GroupCall.EXTEND else "EVS.5400",
        )


def volume_status_after_report(status: str, node_state: str, attached: bool) -> VolumeStatus | None:
    """Return a volume's status after its node reported `node_state`; None when the volume is gone."""
    if status == VolumeStatus.DELETING:
        return None if node_state == "deleted" else VolumeStatus.DELETING
    if status == VolumeStatus.EXTENDING:
        return VolumeStatus.EXTENDING  # Its extension says how it ends, whatever happens to the volume.
    if node_state == "ready" and status == VolumeStatus.ERROR_EXTENDING:
        return VolumeStatus.ERROR_EXTENDING
    if node_state == "ready":
        return VolumeStatus.IN_USE if attached else VolumeStatus.AVAILABLE
    if node_state in {"error", "deleted"}:
        return VolumeStatus.ERROR
    return VolumeStatus(status)


def pair_status_after_volumes(status: str, production: str, dr: str) -> PairStatus:
    """Return a pair's status once the statuses of its two volumes are known.

    Only a pair that was never available follows its volumes; later faults show as fault level and failure detail.
    """
    if status not in {PairStatus.CREATING, PairStatus.ERROR}:
        return PairStatus(status)
    ready = {VolumeStatus.AVAILABLE, VolumeStatus.IN_USE}
    if production in ready and dr in ready:
        return PairStatus.AVAILABLE
    if VolumeStatus.ERROR in (production, dr):
        return PairStatus.ERROR
    return PairStatus(status)
