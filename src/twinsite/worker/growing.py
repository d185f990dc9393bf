"""Members that grow under a running worker: first the store, then whoever counts on its size.

Nothing stops for it. The secondary is told first, so that nothing travels that it has no room for; what is new reads as
zeros on both sides, so that nothing has to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from twinsite.errors import ConfigurationError
from twinsite.messages import MemberSpec
from twinsite.stores.base import Store
from twinsite.worker.primary_group import PrimaryGroup
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.store_device import StoreDevice

log = structlog.get_logger(__name__)


def grown_members(have: Mapping[int, MemberSpec], wanted: Mapping[int, MemberSpec]) -> dict[int, int]:
    """Return the new sizes in bytes, by index, of the members that stay and grow.

    Raises `ConfigurationError` for one that is to shrink: hosts may have written to what it would lose.
    """
    sizes_bytes = {}
    for index, member in wanted.items():
        old = have.get(index)
        if old is None or old.volume_id != member.volume_id or old.size_bytes == member.size_bytes:
            continue
        if member.size_bytes < old.size_bytes:
            raise ConfigurationError(
                f"volume {member.volume_id} has {old.size_bytes} bytes and would shrink to {member.size_bytes}; "
                "the controller's database is older than the volume"
            )
        sizes_bytes[index] = member.size_bytes
    return sizes_bytes


async def grow(
    group: PrimaryGroup | SecondaryGroup | None,
    stores: Mapping[int, Store],
    devices: Mapping[int, StoreDevice],
    sizes_bytes: Mapping[int, int],
) -> None:
    """Let members, by index, have these sizes. Raises `StorageFault`; safe to repeat then."""
    for index, size_bytes in sizes_bytes.items():
        stores[index].grow(size_bytes)
        log.info("worker.volume_grown", path=stores[index].path, size_bytes=size_bytes)
    if isinstance(group, SecondaryGroup):
        await group.grow_members(sizes_bytes)
        return
    for index, size_bytes in sizes_bytes.items():
        if group is not None:
            group.grow_member(index, size_bytes)
        if index in devices:
            devices[index].grow(size_bytes)
