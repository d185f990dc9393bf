"""What a secondary's welcome brings into doubt, marked in the members' maps before a resync begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinsite.core.group.member import Member
from twinsite.core.group.recovery import Difference
from twinsite.core.stream.hello import Welcome
from twinsite.core.tracking.intents import EXTENT_BLOCKS, IntentMap

ExtentRun = tuple[int, int, int]
"""Member index, first extent, count of extents."""

_COPIED = frozenset({Difference.COPY_RECORDED, Difference.COPY_NAMED, Difference.COPY_ALL})


def add_doubts(
    difference: Difference, members: Iterable[Member], recorded: Mapping[int, IntentMap], welcome: Welcome
) -> list[ExtentRun]:
    """Mark what may differ besides what the maps say, to be copied or compared; return the extents that this names.

    The intent log must cover those before the resync begins. `recorded` are its maps, by member index.
    """
    doubted: list[ExtentRun] = []
    for member in members:
        blocks = member.dirty if difference in _COPIED else member.suspect
        for first, count in _runs(difference, member, recorded[member.index], welcome):
            blocks.mark_blocks(first * EXTENT_BLOCKS, count * EXTENT_BLOCKS)
            doubted.append((member.index, first, count))
    return doubted


def _runs(difference: Difference, member: Member, recorded: IntentMap, welcome: Welcome) -> list[tuple[int, int]]:
    if difference in (Difference.COMPARE_ALL, Difference.COPY_ALL):
        return [(0, recorded.extent_count)]
    if difference in (Difference.COMPARE_RECORDED, Difference.COPY_RECORDED):
        return recorded.runs()
    if difference in (Difference.COMPARE_NAMED, Difference.COPY_NAMED):
        return [(first, count) for index, first, count in welcome.runs if index == member.index]
    return []
