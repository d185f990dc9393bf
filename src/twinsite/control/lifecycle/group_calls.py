"""What all calls on groups share: to read and decide first, then to write a wish if nobody was faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.health import GroupHealth
from twinsite.control.models import Group, Pair
from twinsite.control.refusals import RequestRefused, conflict, not_found
from twinsite.control.repository import objects, shown, sites


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A group with what its workers say of it."""

    group: Group
    health: GroupHealth


class GroupCalls:
    """Root of the services on groups.

    A call first reads and decides, then writes with a compare-and-swap on the group's `version`: of two calls that
    decided on the same state, one wins and the other gets a 409, unless both wanted the same.
    """

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def show(self, project_id: str, group_id: str) -> ShownGroup:
        """Return a group and its health."""
        async with self._context.database.read() as session:
            group = await find_group(session, project_id, group_id)
            return await self._shown(session, group)

    async def view(self, project_id: str, group_id: str) -> ShownGroup:
        """Return a group and its health for the eyes only, in less time than `show`, whose group may be changed."""
        async with self._context.database.read() as session:
            group = await shown.group(session, project_id, group_id)
            if group is None:
                raise not_found("replication consistency group", group_id)
            return await self._shown(session, group)

    async def _shown(self, session: AsyncSession, group: Group) -> ShownGroup:
        return ShownGroup(group, (await self._context.health_of(session, [group]))[group.id])

    async def _record_wish(self, session: AsyncSession, group: Group, values: dict[str, Any]) -> bool:
        """Write a new wish; say whether nobody changed the group since it was read."""
        both = [group.priority_station, group.secondary_station]
        wish = {
            "failure_code": None,
            "failure_message": None,
            "move_deadline": None,
            **values,
            "updated_at": utc_now(),
            "spec_version": Group.spec_version + 1,
            "wish_version": Group.spec_version + 1,
        }
        won = await objects.change_group(session, group.id, group.version, wish)
        if won:
            await sites.raise_generation(session, both)
        return won


async def find_group(session: AsyncSession, project_id: str, group_id: str, *, locked: bool = False) -> Group:
    """Return a project's group; `RequestRefused` (404) when there is none."""
    group = await objects.find(session, Group, project_id, group_id, locked=locked)
    if group is None:
        raise not_found("replication consistency group", group_id)
    return group


def lost(group_id: str, what: str) -> RequestRefused:
    """Return the 409 for a call that another one overtook."""
    return conflict(
        f"Another change of the group {group_id} came first, so this {what} did nothing. Read the group and try again."
    )


def growing_pairs(group: Group) -> list[Pair]:
    """Return the pairs whose disks are being extended."""
    return [pair for pair in group.pairs if pair.production_volume.target_gib is not None]


def refuse_while_extending(group: Group, what: str) -> None:
    """Refuse (409) what would change a group's disks, or move them as planned, while they grow."""
    if growing_pairs(group):
        raise conflict(
            f"The disks of the group {group.id} are being extended. Wait for that (repeat the "
            f"os-extend-replication-volumes) before you {what}."
        )
