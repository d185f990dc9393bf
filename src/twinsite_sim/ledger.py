"""What hosts know of the volumes, and what therefore may lie on the disks. Knows nothing of the workers' insides.

Every change carries its own number as its content (eight bytes, again and again; zeros for a trim), so that each sector
of a disk tells which change it shows. For each sector the ledger keeps the changes in the order in which they were
issued. The newest one that a host was told is done is the floor: a disk that is to be current shows the floor or
something issued after it. Hosts do not issue overlapping changes at the same time, as no file system does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinsite.core.limits import SECTOR_BYTES
from twinsite_sim.loop import WorldFailure

WORD_BYTES = 8
WORDS_IN_SECTOR = SECTOR_BYTES // WORD_BYTES


@dataclass(slots=True, eq=False)
class Change:
    """A write, or a zeroing (`word` 0), of whole sectors of one volume. Times are the world's own."""

    number: int
    word: int
    volume: int
    sectors: range
    issued_at: float
    place: Any = None
    """The process that it was sent to."""
    done_at: float | None = None
    is_pending: bool = True
    is_flushed: bool = False
    has_failed: bool = False
    excused: set[int] = field(default_factory=set)
    """Sectors that a crash has taken back while the answer was on its way."""

    def __str__(self) -> str:
        what = "write" if self.word else "zero"
        return f"{what} #{self.number} of volume {self.volume}, sectors {self.sectors.start}-{self.sectors.stop - 1}"


@dataclass
class VolumeLedger:
    """One volume: per sector the changes that matter, oldest first, and where the floor is among them."""

    index: int
    sector_count: int
    words: list[int]
    """Per sector what the floor shows, for a quick comparison."""
    history: list[list[Change]]
    floor: list[int]
    unflushed: list[Change] = field(default_factory=list)


class Ledger:
    """The ledger of a group."""

    def __init__(self, sizes_bytes: Sequence[int]) -> None:
        self._numbers = itertools.count(1)
        self.volumes = []
        self.by_number: dict[int, Change] = {}
        for index, size in enumerate(sizes_bytes):
            count = size // SECTOR_BYTES
            blank = Change(0, 0, index, range(count), 0.0, done_at=0.0, is_pending=False, is_flushed=True)
            self.volumes.append(VolumeLedger(index, count, [0] * count, [[blank] for _ in range(count)], [0] * count))
        self.pending: dict[Change, None] = {}
        self.done_count = 0

    # What hosts do

    def is_free(self, volume: int, sectors: range) -> bool:
        """Say whether no change that may still be answered overlaps."""
        return not any(
            change.volume == volume
            and change.sectors.start < sectors.stop
            and sectors.start < change.sectors.stop
            for change in self.pending
        )

    def issue(self, volume: int, sectors: range, now: float, place: Any, *, is_zero: bool) -> Change:
        """A host sends a change."""
        number = next(self._numbers)
        change = Change(number, 0 if is_zero else number, volume, sectors, now, place)
        self.by_number[number] = change
        self.pending[change] = None
        history = self.volumes[volume].history
        for sector in sectors:
            history[sector].append(change)
        return change

    def done(self, change: Change, now: float, *, is_fua: bool) -> None:
        """A host is told that a change is done. Raises `WorldFailure` if that is a lie of another history."""
        self.pending.pop(change, None)
        change.is_pending = False
        change.done_at = now
        change.is_flushed = is_fua
        self.done_count += 1
        volume = self.volumes[change.volume]
        for sector in change.sectors:
            history = volume.history[sector]
            for place in range(len(history) - 1, -1, -1):
                if history[place] is change:
                    if sector not in change.excused:
                        volume.floor[sector] = max(volume.floor[sector], place)
                    break
            else:
                raise WorldFailure(f"{change} is told done, but a host has seen that it is not there")
            volume.words[sector] = history[volume.floor[sector]].word
        if not is_fua:
            volume.unflushed.append(change)

    def failed(self, change: Change) -> None:
        """A host is told that a change has failed: all of it, a part or nothing may be there."""
        self.pending.pop(change, None)
        change.is_pending = False
        change.has_failed = True

    def cut_off(self, change: Change) -> None:
        """The host's connection is gone: the change may be there or not."""
        self.pending.pop(change, None)
        change.is_pending = False

    def flushed(self, volume: int, issued_at: float) -> None:
        """A flush that was sent at that time is told done: it covers what was done before."""
        record = self.volumes[volume]
        rest = []
        for change in record.unflushed:
            assert change.done_at is not None
            if change.done_at <= issued_at:
                change.is_flushed = True
            else:
                rest.append(change)
        record.unflushed = rest

    # What disks show

    def check(self, images: Sequence[bytes | bytearray], what: str) -> None:
        """Raise `WorldFailure` unless disks show every change that a host was told is done."""
        for volume, image in zip(self.volumes, images, strict=True):
            for sector, word in self._differences(volume, image, what):
                self._place_of(volume, sector, word, what)

    def settle(self, images: Sequence[bytes | bytearray], place: Any, what: str) -> None:
        """Check disks that hosts are shown from now on, and hold them to what they show.

        What was sent to another process than `place` and is not shown will not be shown later either.
        """
        for volume, image in zip(self.volumes, images, strict=True):
            found = dict(self._differences(volume, image, what))
            for sector, history in enumerate(volume.history):
                floor = volume.floor[sector]
                if sector not in found and len(history) == floor + 1:
                    continue
                word = found.get(sector, volume.words[sector])
                floor = self._place_of(volume, sector, word, what)
                volume.floor[sector] = floor
                volume.words[sector] = word
                history[floor + 1 :] = [change for change in history[floor + 1 :] if change.place is place]

    def crashed(
        self, index: int, sectors: Iterable[int], image: bytes | bytearray, other: bytes | bytearray | None
    ) -> list[int]:
        """A disk has lost what was not flushed; `image` is what it shows now.

        `other` is the other site's disk if that is held to be current. What it shows is not lost. What hosts had
        flushed is not excused. Returns the sectors in which hosts may now see something older.
        """
        volume = self.volumes[index]
        excused = []
        for sector in sectors:
            history, floor = volume.history[sector], volume.floor[sector]
            held = word_at(other, sector) if other is not None else None
            for change in history[floor + 1 :]:
                if change.is_pending and (held is None or change.word != held):
                    change.excused.add(sector)
            if held is not None and held in {change.word for change in history[floor:]}:
                continue
            flushed = max((n for n in range(floor + 1) if history[n].is_flushed), default=0)
            shown = word_at(image, sector)
            places = [n for n in range(flushed, floor + 1) if history[n].word == shown]
            if places and places[-1] < floor:
                volume.floor[sector] = places[-1]
                volume.words[sector] = shown
                excused.append(sector)
        return excused

    def start_anew(
        self, images: Sequence[bytes | bytearray], what: str, *, is_of_one_moment: bool = True
    ) -> list[tuple[Change, Change]]:
        """A forced failover has made these disks the history. Returns what is lost: (was done, is shown instead).

        Raises `WorldFailure` unless the images are of one moment: whatever a host had been told before it issued
        anything that is shown, is shown too.
        """
        shown: list[list[int]] = []
        moment = 0.0
        for volume, image in zip(self.volumes, images, strict=True):
            found = dict(self._differences(volume, image, what))
            places = []
            for sector in range(volume.sector_count):
                place = self._any_place_of(volume, sector, found.get(sector, volume.words[sector]), what)
                change = volume.history[sector][place]
                if change.word:
                    moment = max(moment, change.issued_at)
                places.append(place)
            shown.append(places)
        lost = []
        for volume, places in zip(self.volumes, shown, strict=True):
            for sector, place in enumerate(places):
                history = volume.history[sector]
                for later in history[place + 1 : volume.floor[sector] + 1]:
                    if later.done_at is None:
                        continue
                    if later.done_at < moment and is_of_one_moment:
                        raise WorldFailure(
                            f"{what}: sector {sector} of volume {volume.index} shows {history[place]} and not "
                            f"{later}, which was done at {later.done_at:.4f}, before something that is shown was "
                            f"issued at {moment:.4f}: the disks are not of one moment"
                        )
                    lost.append((later, history[place]))
                del history[place + 1 :]
                volume.floor[sector] = place
                volume.words[sector] = history[place].word
        return lost

    def one_moment(self, images: Sequence[bytes | bytearray], what: str) -> None:
        """Raise `WorldFailure` unless disks that are behind are of one moment, without making them the history."""
        moment = 0.0
        shown = []
        for volume, image in zip(self.volumes, images, strict=True):
            found = dict(self._differences(volume, image, what))
            for sector, word in found.items():
                place = self._any_place_of(volume, sector, word, what)
                shown.append((volume, sector, place))
            for sector in range(volume.sector_count):
                if sector not in found:
                    change = volume.history[sector][volume.floor[sector]]
                    if change.word:
                        moment = max(moment, change.issued_at)
        for volume, sector, place in shown:
            change = volume.history[sector][place]
            if change.word:
                moment = max(moment, change.issued_at)
        for volume, sector, place in shown:
            for later in volume.history[sector][place + 1 : volume.floor[sector] + 1]:
                if later.done_at is not None and later.done_at < moment:
                    raise WorldFailure(
                        f"{what}: sector {sector} of volume {volume.index} shows "
                        f"{volume.history[sector][place]} and not {later}: the disks are not of one moment"
                    )

    def may_show(self, volume: int, sector: int, word: int) -> bool:
        """Say whether a host may read this just now."""
        record = self.volumes[volume]
        return any(change.word == word for change in record.history[sector][record.floor[sector] :])

    def was_read(self, volume: int, sector: int, word: int) -> None:
        """A host has read a sector: what it shows stays, unless its change has failed or is under way."""
        record = self.volumes[volume]
        history, floor = record.history[sector], record.floor[sector]
        if len(history) == floor + 1 or any(c.is_pending or c.has_failed for c in history[floor:]):
            return
        place = next(n for n in range(len(history) - 1, floor - 1, -1) if history[n].word == word)
        record.floor[sector] = place
        record.words[sector] = word

    # Inside

    def _differences(
        self, volume: VolumeLedger, image: bytes | bytearray, what: str
    ) -> list[tuple[int, int]]:
        """Return (sector, word) where an image shows something else than the floor."""
        words = memoryview(image).cast("Q")
        firsts = words[::WORDS_IN_SECTOR].tolist()
        if firsts != words[WORDS_IN_SECTOR - 1 :: WORDS_IN_SECTOR].tolist():
            sector = next(n for n in range(len(firsts)) if firsts[n] != words[(n + 1) * WORDS_IN_SECTOR - 1])
            raise WorldFailure(f"{what}: sector {sector} of volume {volume.index} is torn inside")
        if firsts == volume.words:
            return []
        return [(n, word) for n, (word, floor) in enumerate(zip(firsts, volume.words, strict=True)) if word != floor]

    def _place_of(self, volume: VolumeLedger, sector: int, word: int, what: str) -> int:
        """Return which change, from the floor on, a sector shows. Raises `WorldFailure` if it is none."""
        history, floor = volume.history[sector], volume.floor[sector]
        for place in range(len(history) - 1, floor - 1, -1):
            if history[place].word == word:
                return place
        held = "; ".join(f"{change}, done at {change.done_at}" for change in history[floor:])
        raise WorldFailure(
            f"{what}: an answered change is lost: sector {sector} of volume {volume.index} shows "
            f"{self._describe(word)}; it must show one of: {held}"
        )

    def _any_place_of(self, volume: VolumeLedger, sector: int, word: int, what: str) -> int:
        history = volume.history[sector]
        for place in range(len(history) - 1, -1, -1):
            if history[place].word == word:
                return place
        raise WorldFailure(
            f"{what}: sector {sector} of volume {volume.index} shows {self._describe(word)}, which it may not show "
            "any more, or never showed"
        )

    def _describe(self, word: int) -> str:
        change = self.by_number.get(word)
        return f"{word:#x}, which nobody wrote" if change is None and word else str(change or "zeros")


def word_at(image: bytes | bytearray, sector: int) -> int:
    """Return what a sector shows."""
    return int.from_bytes(image[sector * SECTOR_BYTES : sector * SECTOR_BYTES + WORD_BYTES], "little")


def content_of(change: Change) -> bytes:
    """Return the bytes that a change puts on the disk."""
    return change.word.to_bytes(WORD_BYTES, "little") * (len(change.sectors) * WORDS_IN_SECTOR)
