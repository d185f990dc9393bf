"""The state tables, walked over every status and every call or report."""

from __future__ import annotations

import itertools
import re

import pytest

from twinsite.control.lifecycle.states import (
    GROUP_ADMITS,
    PAIR_DELETABLE,
    VOLUME_ADMITS,
    GroupCall,
    GroupStatus,
    PairStatus,
    ReplicationStatus,
    VolumeCall,
    VolumeStatus,
    admit_available_pair,
    admit_group,
    admit_pair_delete,
    admit_volume,
    pair_status_after_volumes,
    volume_status_after_report,
    way_out_of_group,
    way_to_active,
)
from twinsite.control.refusals import RequestRefused

GROUP_TRANSITIONAL = {
    GroupStatus.CREATING,
    GroupStatus.UPDATING,
    GroupStatus.DELETING,
    GroupStatus.REVERSING,
    GroupStatus.FAILING_OVER,
}

VOLUME_EXPECTED = {
    VolumeCall.DELETE: {"available", "error", "error_extending"},
    VolumeCall.PAIR: {"creating", "available", "in-use"},
    VolumeCall.CONNECT: {"available", "in-use", "error_extending"},
    VolumeCall.DISCONNECT: {"available", "in-use", "error", "extending", "error_extending"},
    VolumeCall.EXTEND: {"available", "in-use", "error_extending"},
}

GROUP_EXPECTED = {
    GroupCall.SYNC: {"available", "error", "failovered", "error_reversing"},
    GroupCall.STOP: {"available", "error", "failovered", "error_failovering", "error_reversing"},
    GroupCall.UPDATE: {"available", "error"},
    GroupCall.DELETE: {"available", "error"},
    GroupCall.FAIL_OVER: {"available", "error_failovering", "error_reversing"},
    GroupCall.REVERSE: {"available", "error_reversing"},
    GroupCall.REPROTECT: {"failovered"},
    GroupCall.EXTEND: {"available"},
}


@pytest.mark.parametrize(("call", "status"), list(itertools.product(VolumeCall, VolumeStatus)))
def test_volume_calls_by_status(call: VolumeCall, status: VolumeStatus) -> None:
    if status in VOLUME_EXPECTED[call]:
        admit_volume("v-1", status, call)
        return
    with pytest.raises(RequestRefused) as refusal:
        admit_volume("v-1", status, call)
    assert refusal.value.status == 400
    codes = {VolumeCall.DELETE: "EVS.1046", VolumeCall.EXTEND: "EVS.1048"}
    assert refusal.value.code == codes.get(call, "EVS.5400")
    assert "v-1" in refusal.value.message
    assert repr(status.value) in refusal.value.message
    for allowed in VOLUME_ADMITS[call]:
        assert repr(allowed.value) in refusal.value.message


@pytest.mark.parametrize(("call", "status"), list(itertools.product(GroupCall, GroupStatus)))
def test_group_calls_by_status(call: GroupCall, status: GroupStatus) -> None:
    if status in GROUP_EXPECTED[call]:
        admit_group("g-1", status, call)
        return
    with pytest.raises(RequestRefused) as refusal:
        admit_group("g-1", status, call)
    assert (refusal.value.status, refusal.value.code) == (400, "EVS.1048" if call is GroupCall.EXTEND else "EVS.5400")
    assert "g-1" in refusal.value.message
    assert repr(status.value) in refusal.value.message
    for allowed in GROUP_ADMITS[call]:
        assert repr(allowed.value) in refusal.value.message


KEYS = {
    "os-sync-replication-consistency-group": GroupCall.SYNC,
    "os-stop-replication-consistency-group": GroupCall.STOP,
    "os-failover-replication-consistency-group": GroupCall.FAIL_OVER,
    "os-reverse-replication-consistency-group": GroupCall.REVERSE,
    "os-reprotect-replication-consistency-group": GroupCall.REPROTECT,
    "os-extend-replication-volumes": GroupCall.EXTEND,
    "PUT with": GroupCall.UPDATE,
}
BECOMES = {
    GroupStatus.CREATING: GroupStatus.AVAILABLE,
    GroupStatus.UPDATING: GroupStatus.AVAILABLE,
    GroupStatus.REVERSING: GroupStatus.AVAILABLE,
    GroupStatus.FAILING_OVER: GroupStatus.FAILED_OVER,
    GroupStatus.ERROR: GroupStatus.AVAILABLE,
}
"""What a status becomes by itself, once what it waits for is there."""


@pytest.mark.parametrize(("call", "status"), list(itertools.product(GroupCall, GroupStatus)))
def test_the_next_step_of_a_refusal_is_a_legal_one(call: GroupCall, status: GroupStatus) -> None:
    if status in GROUP_ADMITS[call]:
        return
    hint = way_out_of_group(status, call)
    with pytest.raises(RequestRefused, match=re.escape(hint)):
        admit_group("g-1", status, call)
    steps = [step for key, step in KEYS.items() if key in hint]
    waits = "Wait until" in hint or hint.startswith("Repair")
    if status in (GroupStatus.DELETING, GroupStatus.ERROR_DELETING):
        assert not steps
        assert not waits
        return
    assert waits == (status in BECOMES and (status, call) != (GroupStatus.ERROR, GroupCall.REPROTECT))
    then = BECOMES[status] if waits else status
    for step in steps:
        assert then in GROUP_ADMITS[step]
    # Without a step of its own, the hint is to ask again after the wait.
    assert steps or then in GROUP_ADMITS[call]
    assert call not in steps


@pytest.mark.parametrize("status", ReplicationStatus)
def test_the_way_to_active_is_a_legal_one(status: ReplicationStatus) -> None:
    # A switchover is asked for in these statuses; a sync is admitted in both.
    assert GROUP_ADMITS[GroupCall.REVERSE] <= GROUP_ADMITS[GroupCall.SYNC]
    assert ("os-sync" in way_to_active(status)) == (status is not ReplicationStatus.COPYING)


@pytest.mark.parametrize(("call", "status"), list(itertools.product(VolumeCall, VolumeStatus)))
def test_the_next_step_for_a_volume_is_a_legal_one(call: VolumeCall, status: VolumeStatus) -> None:
    if status in VOLUME_ADMITS[call]:
        return
    with pytest.raises(RequestRefused) as refusal:
        admit_volume("v-1", status, call)
    hint = refusal.value.message.partition(f"To {call}: ")[2]
    steps = {
        "os-terminate_connection": VolumeCall.DISCONNECT,
        "os-extend": VolumeCall.EXTEND,
        "delete the volume": VolumeCall.DELETE,
    }
    named = [step for key, step in steps.items() if key in hint]
    assert all(status in VOLUME_ADMITS[step] for step in named)
    # Those that pass by themselves are waited for.
    assert bool(named) == (status in (VolumeStatus.IN_USE, VolumeStatus.ERROR, VolumeStatus.ERROR_EXTENDING))


@pytest.mark.parametrize("status", PairStatus)
def test_the_next_step_for_a_pair_is_a_legal_one(status: PairStatus) -> None:
    if status is PairStatus.AVAILABLE:
        admit_available_pair("p-1", status)
        return
    with pytest.raises(RequestRefused) as refusal:
        admit_available_pair("p-1", status, "EVS.1048")
    assert refusal.value.code == "EVS.1048"
    assert ("Wait until" in refusal.value.message) == (status is PairStatus.CREATING)
    assert ("delete it" in refusal.value.message) == (status in PAIR_DELETABLE)


def test_transitional_statuses_admit_only_reads() -> None:
    for allowed in GROUP_ADMITS.values():
        assert not allowed & GROUP_TRANSITIONAL


@pytest.mark.parametrize("status", PairStatus)
def test_pair_deletion_by_status(status: PairStatus) -> None:
    if status in PAIR_DELETABLE:
        admit_pair_delete("p-1", status)
    else:
        with pytest.raises(RequestRefused, match=status.value):
            admit_pair_delete("p-1", status)
    assert {"available", "error"} == PAIR_DELETABLE


@pytest.mark.parametrize(
    ("status", "node_state", "attached"),
    list(itertools.product(VolumeStatus, ["ready", "error", "deleted", "unheard of"], [False, True])),
)
def test_volume_status_after_a_report(status: VolumeStatus, node_state: str, attached: bool) -> None:
    result = volume_status_after_report(status, node_state, attached)
    if status is VolumeStatus.DELETING:
        expected = None if node_state == "deleted" else VolumeStatus.DELETING
    elif status is VolumeStatus.EXTENDING or (status is VolumeStatus.ERROR_EXTENDING and node_state == "ready"):
        expected = status
    elif node_state == "ready":
        expected = VolumeStatus.IN_USE if attached else VolumeStatus.AVAILABLE
    elif node_state == "unheard of":
        expected = status
    else:
        expected = VolumeStatus.ERROR
    assert result is expected


@pytest.mark.parametrize(
    ("status", "production", "dr"), list(itertools.product(PairStatus, VolumeStatus, VolumeStatus))
)
def test_pair_status_after_its_volumes(status: PairStatus, production: VolumeStatus, dr: VolumeStatus) -> None:
    result = pair_status_after_volumes(status, production, dr)
    both = {production, dr}
    if status not in (PairStatus.CREATING, PairStatus.ERROR):
        assert result is status
    elif both <= {VolumeStatus.AVAILABLE, VolumeStatus.IN_USE}:
        assert result is PairStatus.AVAILABLE
    elif VolumeStatus.ERROR in both:
        assert result is PairStatus.ERROR
    else:
        assert result is status
