"""What clients write on volumes: Cinder's metadata, and the tags of the EVS API. Neither means anything here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from twinsite.control.clock import utc_now
from twinsite.control.context import Context
from twinsite.control.lifecycle.volumes import check_metadata
from twinsite.control.models import Pair, Volume
from twinsite.control.refusals import bad_request, not_found
from twinsite.control.repository import objects

TAGS_MAX = 10
"""Most tags of one volume (EVS API reference, Tag Management)."""
FOUND_MAX = 1000
"""Most volumes in the answer to a search by tags."""

# EVS API reference, "Adding or Updating Tags for an EVS Resource".
_TAG_KEY = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fff]{1,36}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.\-\u4e00-\u9fff]{0,43}")

Labels = dict[str, str]
Wanted = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TagQuery:
    """Which volumes are looked for: keys with the values that would do, any value when there are none."""

    all_of: Wanted = field(default_factory=dict)
    any_of: Wanted = field(default_factory=dict)
    not_all_of: Wanted = field(default_factory=dict)
    not_any_of: Wanted = field(default_factory=dict)

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Say whether a volume with these tags is looked for."""

        def has(wanted: Wanted) -> list[bool]:
            return [key in tags and (not values or tags[key] in values) for key, values in wanted.items()]

        return (
            all(has(self.all_of))
            and (not self.any_of or any(has(self.any_of)))
            and (not self.not_all_of or not all(has(self.not_all_of)))
            and not any(has(self.not_any_of))
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a search by tags found: how many in all, and the newest, with the pairs that they are part of."""

    count: int
    volumes: list[Volume]
    pairs: Mapping[str, Pair]


class LabelService:
    """The calls on metadata and tags. Each raises `RequestRefused` and changes nothing when it cannot be done."""

    def __init__(self, context: Context) -> None:
        """Work on the controller's database."""
        self._context = context

    async def metadata(self, project_id: str, volume_id: str) -> Labels:
        """Return a volume's metadata."""
        async with self._context.database.read() as session:
            return (await _find(session, project_id, volume_id)).user_metadata

    async def change_metadata(self, project_id: str, volume_id: str, change: Callable[[Labels], Labels]) -> Labels:
        """Give a volume the metadata that `change` makes of those that it has; return them."""
        async with self._changing(project_id, volume_id) as volume:
            volume.user_metadata = check_metadata(change(dict(volume.user_metadata)))
            return volume.user_metadata

    async def tags(self, project_id: str, volume_id: str) -> Labels:
        """Return a volume's tags."""
        async with self._context.database.read() as session:
            return (await _find(session, project_id, volume_id)).tags

    async def change_tags(self, project_id: str, volume_id: str, change: Callable[[Labels], Labels]) -> Labels:
        """Give a volume the tags that `change` makes of those that it has; return them."""
        async with self._changing(project_id, volume_id) as volume:
            volume.tags = check_tags(change(dict(volume.tags)))
            return volume.tags

    @contextlib.asynccontextmanager
    async def _changing(self, project_id: str, volume_id: str) -> AsyncIterator[Volume]:
        """Hold a volume for a change of its labels; what raises changes nothing."""
        async with self._context.database.write() as session:
            volume = await _find(session, project_id, volume_id, locked=True)
            yield volume
            volume.updated_at = utc_now()

    async def tag_values(self, project_id: str) -> dict[str, list[str]]:
        """Return the values that each key has on the project's volumes, in order."""
        async with self._context.database.read() as session:
            rows = await objects.tags_of_project(session, project_id)
        values: dict[str, set[str]] = {}
        for _, tags in rows:
            for key, value in tags.items():
                values.setdefault(key, set()).add(value)
        return {key: sorted(values[key]) for key in sorted(values)}

    async def search(self, project_id: str, query: TagQuery) -> Found:
        """Return the project's volumes whose tags match, the newest first."""
        async with self._context.database.read() as session:
            ids = [
                volume_id
                for volume_id, tags in await objects.tags_of_project(session, project_id)
                if query.matches(tags)
            ]
            shown = ids[:FOUND_MAX]
            volumes = await objects.find_many(session, Volume, project_id, shown)
            pairs = await objects.pairs_of_volumes(session, shown)
        by_volume = {pair.production_volume_id: pair for pair in pairs}
        by_volume.update({pair.dr_volume_id: pair for pair in pairs})
        return Found(len(ids), [volumes[volume_id] for volume_id in shown], by_volume)


def without(labels: Labels, key: str, kind: str) -> Labels:
    """Return labels without the one of this key; `RequestRefused` (404) when there is none."""
    if key not in labels:
        raise not_found(kind, key)
    return {name: value for name, value in labels.items() if name != key}


def check_tags(tags: Labels) -> Labels:
    """Return tags that may be stored, or refuse them (400)."""
    if len(tags) > TAGS_MAX:
        raise bad_request(f"The volume would have {len(tags)} tags; at most {TAGS_MAX} are allowed. Delete some first.")
    for key, value in tags.items():
        if _TAG_KEY.fullmatch(key) is None:
            raise bad_request(
                f"The tag key {key[:40]!r} is not allowed: give 1 to 36 letters, digits, '-', '_', Chinese characters."
            )
        if _TAG_VALUE.fullmatch(value) is None:
            raise bad_request(
                f"The value of the tag {key!r} is not allowed: give up to 43 letters, digits, '-', '_', '.' or "
                "Chinese characters."
            )
    return tags


async def _find(session: AsyncSession, project_id: str, volume_id: str, *, locked: bool = False) -> Volume:
    volume = await objects.find(session, Volume, project_id, volume_id, locked=locked)
    if volume is None:
        raise not_found("volume", volume_id)
    return volume
