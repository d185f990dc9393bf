"""What hosts know of the volumes, and what therefore may lie on the disks. Knows nothing of the workers' insides.

Every change carries its own number as its content (eight bytes, again and again; zeros for a trim), so that each sector
of a disk tells which change it shows. For each sector the ledger keeps the changes in the order in which they were
issued. The newest one that a host was told is done is the floor: a disk that is to be current shows the floor or
something issued after it. Hosts do not issue overlapping changes at the same time, as no file system does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twinsite.core.limits import SECTOR_BYTES
from twinsite_sim.loop import WorldFailure

Image = bytes | bytearray | memoryview
"""What a disk shows, as far as the ledger knows it."""
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
    is_forked: bool = False
    """It was sent to a primary that had been replaced: no part of history, but it may lie on that one's disks."""
    forked_at: float = 0.0
    """When the new primary showed its disks."""
    done_at: float | None = None
    is_pending: bool = True
    is_flushed: bool = False
    has_failed: bool = False
    excused: set[int] = field(default_factory=set)
    """Sectors that a crash has taken back, so that they may be seen again or not."""
    unstable: set[int] = field(default_factory=set)
    """Sectors that a forced failover shows without having them durable, whatever was flushed elsewhere."""
    gone: dict[int, float] = field(default_factory=dict)
    """Sectors in which it was seen to be lost for good, and when: only disks of an older moment show it again."""
    torn: set[int] = field(default_factory=set)
    """Those of them in which it was lost and perhaps not what was done after it: who is copied to shows the same."""

    def __str__(self) -> str:
        what = "write" if self.word else "zero"
        return f"{what} #{self.number} of volume {self.volume}, sectors {self.sectors.start}-{self.sectors.stop - 1}"


class Lost(NamedTuple):
    """What a forced failover has lost in one sector: a change that was done, and what is shown instead."""

    change: Change
    sector: int
    shown: Change


@dataclass
class VolumeLedger:
    """One volume: per sector the changes, oldest first, and where the floor is among them."""

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
        self.volumes: dict[int, VolumeLedger] = {}
        """The members that the group has, by the number of the pair."""
        self.by_number: dict[int, Change] = {}
        for index, size in enumerate(sizes_bytes):
            self.volumes[index] = VolumeLedger(index, 0, [], [], [])
            self.grow(index, size)
        self.pending: dict[Change, None] = {}
        self.done_count = 0
        self.forked_machine: Any = None
        """The machine of a primary that a failover has replaced: it may not know yet."""
        self._forked_at = 0.0
        self._fork_may_answer = False
        self._forks: list[Change] = []
        self._tried: list[tuple[VolumeLedger, int, int, int]] | None = None
        """What a trial has put into histories, to be taken out of them again: where, and the floor before that."""

    def grow(self, index: int, size_bytes: int) -> None:
        """Hosts are shown a larger volume; what is new shows zeros."""
        volume = self.volumes[index]
        new = range(volume.sector_count, size_bytes // SECTOR_BYTES)
        blank = Change(0, 0, index, new, 0.0, done_at=0.0, is_pending=False, is_flushed=True)
        volume.words += [0] * len(new)
        volume.floor += [0] * len(new)
        volume.history += [[blank] for _ in new]
        volume.sector_count = new.stop

    def add(self, index: int, image: Image) -> None:
        """A volume is a member from now on: what lies on its production disk has always been there."""
        words = memoryview(image).cast("Q")[::WORDS_IN_SECTOR].tolist()
        sectors = range(len(words))
        found = {
            word: Change(word, word, index, sectors, 0.0, done_at=0.0, is_pending=False, is_flushed=True)
            for word in dict.fromkeys(words)
        }
        self.volumes[index] = VolumeLedger(
            index, len(words), words, [[found[word]] for word in words], [0] * len(words)
        )

    def remove(self, index: int) -> None:
        """A volume is no member any more: nothing is known of it from now on."""
        for change in [change for change in self.pending if change.volume == index]:
            self.cut_off(change)
        self._forks = [change for change in self._forks if change.volume != index]
        del self.volumes[index]

    def imprint(self, index: int, sectors: range, now: float) -> Change:
        """Return a change of a volume that is no member, for its disk alone."""
        number = next(self._numbers)
        change = self.by_number[number] = Change(number, number, index, sectors, now, is_pending=False)
        return change

    def fork(self, machine: Any, now: float, *, may_answer: bool) -> None:
        """Another site shows its disks now: what hosts send to the one that was primary is not the group's history.

        `may_answer`: it was replaced by force, and goes on alone under its grant until it hears of that.
        """
        self.forked_machine = machine
        self._forked_at = now
        self._fork_may_answer = may_answer

    def join(self, machine: Any = None) -> None:
        """The fork ends: by a promotion of that very `machine`, or because both sides are the same again (None)."""
        if machine is not None and machine is self.forked_machine:
            for change in [change for change in self.pending if change in self._forks]:
                # Its connection is open still, and its process may answer as the new primary.
                change.is_forked = False
                self._forks.remove(change)
                for sector in change.sectors:
                    self.volumes[change.volume].history[sector].append(change)
        elif machine is None:
            self._forks = []
        self.forked_machine = None

    # What hosts do

    def is_free(self, volume: int, sectors: range) -> bool:
        """Say whether no change that may still be answered overlaps."""
        return not any(
            change.volume == volume and change.sectors.start < sectors.stop and sectors.start < change.sectors.stop
            for change in self.pending
        )

    def issue(self, volume: int, sectors: range, now: float, place: Any, *, is_zero: bool) -> Change:
        """A host sends a change."""
        number = next(self._numbers)
        change = Change(number, 0 if is_zero else number, volume, sectors, now, place)
        self.by_number[number] = change
        self.pending[change] = None
        if place is not None and place.machine is self.forked_machine:
            change.is_forked = True
            change.forked_at = self._forked_at
            self._forks.append(change)
            return change
        history = self.volumes[volume].history
        for sector in sectors:
            history[sector].append(change)
        return change

    def done(self, change: Change, now: float, *, is_fua: bool) -> None:
        """A host is told that a change is done. Raises `WorldFailure` if that is a lie of another history."""
        self.pending.pop(change, None)
        change.is_pending = False
        if change.is_forked:
            if change.place.machine is self.forked_machine and not self._fork_may_answer:
                raise WorldFailure(f"{change} is told done by a primary that was replaced without force: two histories")
            return
        change.done_at = now
        change.is_flushed = is_fua
        self.done_count += 1
        volume = self.volumes[change.volume]
        # The answer was on its way when the machine crashed that has lost what nobody had flushed.
        is_late = not is_fua and change.place is not None and not change.place.is_alive
        for sector in change.sectors:
            history = volume.history[sector]
            for place in range(len(history) - 1, -1, -1):
                if history[place] is change and (sector not in change.gone or (is_late and sector in change.excused)):
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

    def check(self, images: Mapping[int, Image], what: str) -> None:
        """Raise `WorldFailure` unless disks show every change that a host was told is done."""
        for index, image in images.items():
            volume = self.volumes[index]
            for sector, word in self._differences(volume, image, what):
                self._place_of(volume, sector, word, what)

    def settle(self, images: Mapping[int, Image], place: Any, now: float, what: str) -> None:
        """Check disks that hosts are shown from now on, and hold them to what they show.

        What was sent to another process than `place` and is not shown will not be shown later either.
        """
        for index, image in images.items():
            volume = self.volumes[index]
            found = dict(self._differences(volume, image, what))
            for sector, history in enumerate(volume.history):
                floor = volume.floor[sector]
                if sector not in found and len(history) == floor + 1:
                    continue
                word = found.get(sector, volume.words[sector])
                shown = self._place_of(volume, sector, word, what)
                for change in history[shown + 1 :]:
                    if change.place is not place:
                        change.gone.setdefault(sector, now)
                shown = _place_for_good(history, sector, shown, place, floor)
                volume.floor[sector] = shown
                volume.words[sector] = history[shown].word

    def crashed(
        self,
        index: int,
        sectors: Iterable[int],
        image: Image,
        other: Image | None,
        *,
        was_told: bool = False,
    ) -> list[int]:
        """A disk has lost what was not flushed; `image` is what it shows now.

        `other` is the other site's disk if that is held to be current. What it shows is not lost. What hosts had
        flushed is not excused. `was_told`: a host's flush has failed, so a later one does not cover what that one was
        to cover, even where it is shown still. Returns the sectors in which hosts may now see something older.
        """
        volume = self.volumes[index]
        excused = []
        for sector in sectors:
            history, floor = volume.history[sector], volume.floor[sector]
            held = word_at(other, sector) if other is not None else None
            for change in history[floor + 1 :]:
                if change.is_pending and (held is None or change.word != held):
                    change.excused.add(sector)
            if held is not None and held in {change.word for change in history[floor:] if sector not in change.gone}:
                continue
            flushed = _last_flushed(history[: floor + 1], sector)
            if was_told:
                for change in history[flushed + 1 : floor + 1]:
                    change.excused.add(sector)
            shown = word_at(image, sector)
            places = [
                n for n in range(flushed, floor + 1) if history[n].word == shown and sector not in history[n].gone
            ]
            if places and places[-1] < floor:
                for change in history[places[-1] + 1 : floor + 1]:
                    change.excused.add(sector)
                volume.floor[sector] = places[-1]
                volume.words[sector] = shown
                excused.append(sector)
        return excused

    def start_anew(
        self,
        images: Mapping[int, Image],
        now: float,
        what: str,
        *,
        is_of_one_moment: bool = True,
        place: Any,
    ) -> list[Lost]:
        """A forced failover has made these disks the history. Returns what is lost.

        `place` is the process that shows them: what it has been sent and has not answered may still appear, and what
        its machine was sent while it was a primary that had been replaced.

        Raises `WorldFailure` unless the images are of one moment, as `_check_moment` has it. If they need not be, what
        they lack need not be shown from then on beside what they have.
        """
        shown = self._shown(images, what, place.machine)
        if is_of_one_moment:
            self._check_moment(shown, what)
        for change in self.pending:
            change.is_forked |= change.place is not None and change.place.machine is self.forked_machine
        lost = []
        for index, places in shown.items():
            volume = self.volumes[index]
            for sector, found in enumerate(places):
                history = volume.history[sector]
                for later in history[found + 1 :]:
                    if later.done_at is not None and sector not in later.gone and sector not in later.excused:
                        lost.append(Lost(later, sector, history[found]))
                    if later.place is not place or not later.is_pending:
                        later.gone.setdefault(sector, now)
                        if not is_of_one_moment:
                            later.torn.add(sector)
                history[found].gone.pop(sector, None)
                history[found].torn.discard(sector)
                floor = _place_for_good(history, sector, found, place)
                volume.floor[sector] = floor
                volume.words[sector] = history[floor].word
        self._forks = [change for change in self._forks if change.place.machine is self.forked_machine]
        return lost

    def check_promotable(self, images: Mapping[int, Image], what: str, machine: Any) -> None:
        """Raise `WorldFailure` unless a forced failover to disks like these would show one moment. Changes nothing.

        `machine` has the disks: what it was sent while it was a primary that had been replaced may be among it.
        """
        self._tried = []
        try:
            self._check_moment(self._shown(images, what, machine), what)
        finally:
            for record, sector, place, floor in reversed(self._tried):
                del record.history[sector][place]
                record.floor[sector] = floor
            self._tried = None

    def void_flushes(self, volume: int, sectors: Iterable[int]) -> None:
        """A forced failover shows these sectors of a disk that does not have them durable."""
        record = self.volumes[volume]
        for sector in sectors:
            record.history[sector][record.floor[sector]].unstable.add(sector)

    def check_flushed(self, images: Mapping[int, Image], what: str) -> None:
        """Raise `WorldFailure` unless disks show every change that a host has flushed."""
        for index, places in self._shown(images, what).items():
            volume = self.volumes[index]
            for sector, place in enumerate(places):
                history = volume.history[sector]
                flushed = _last_flushed(history, sector)
                if place < flushed:
                    raise WorldFailure(
                        f"{what}: a flushed change is lost: sector {sector} of volume {volume.index} shows "
                        f"{history[place]} and not {history[flushed]}"
                    )

    def _shown(self, images: Mapping[int, Image], what: str, machine: Any = None) -> dict[int, list[int]]:
        """Return, for each volume and sector, the newest change that it may be showing.

        With a `machine`, that may be one of those that it was sent while it was a primary that had been replaced.
        """
        shown = {}
        for index, image in images.items():
            volume = self.volumes[index]
            found = dict(self._differences(volume, image, what))
            places = list(volume.floor)
            for sector, word in found.items():
                places[sector] = self._forked_place_of(volume, sector, word, machine)
                if places[sector] < 0:
                    places[sector] = self._any_place_of(volume, sector, word, what)
            shown[index] = places
        return shown

    def _check_moment(self, shown: Mapping[int, Sequence[int]], what: str) -> None:
        """Raise `WorldFailure` unless what is shown is of one moment, whichever.

        Whatever a host had been told before it issued anything that is shown must be shown too, unless it was lost
        for good by then; and nothing may be shown that was lost for good before something that is shown was issued.
        """
        moment, latest = 0.0, None
        shown_until = math.inf  # Disks that show what was torn later are from before that.
        for index, places in shown.items():
            for sector, (history, place) in enumerate(zip(self.volumes[index].history, places, strict=True)):
                if sector in history[place].torn:
                    shown_until = min(shown_until, history[place].gone[sector])
                if history[place].word and history[place].issued_at > moment and not history[place].is_forked:
                    moment, latest = history[place].issued_at, history[place]
        for index, places in shown.items():
            for sector, (history, place) in enumerate(zip(self.volumes[index].history, places, strict=True)):
                change = history[place]
                where = f"{what}: sector {sector} of volume {index} shows {change}"
                if change.word and change.gone.get(sector, moment) < moment:
                    raise WorldFailure(f"{where}, which was lost before {latest} was issued: not one moment")
                for later in history[place + 1 :]:
                    if later.done_at is None or later.done_at >= moment or sector in later.excused:
                        continue
                    if sector in later.torn and later.gone[sector] < shown_until:
                        continue
                    if later.gone.get(sector, moment + 1) > moment:
                        raise WorldFailure(
                            f"{where} and not {later}, which was done at {later.done_at:.4f}, before {latest} was "
                            f"issued at {moment:.4f}: the disks are not of one moment"
                        )

    def may_show(self, volume: int, sector: int, word: int) -> bool:
        """Say whether a host may read this just now."""
        record = self.volumes[volume]
        current = record.history[sector][record.floor[sector] :]
        return any(change.word == word and sector not in change.gone for change in current)

    def was_read(self, volume: int, sector: int, word: int) -> None:
        """A host has read a sector: what it shows stays, unless its change has failed or is under way."""
        record = self.volumes[volume]
        history, floor = record.history[sector], record.floor[sector]
        if len(history) == floor + 1 or any(c.is_pending or c.has_failed for c in history[floor:]):
            return
        places = range(len(history) - 1, floor - 1, -1)
        place = next(n for n in places if history[n].word == word and sector not in history[n].gone)
        if sector in history[place].excused:
            return  # A crash has taken it back while the answer was on its way.
        record.floor[sector] = place
        record.words[sector] = word

    # Inside

    def _differences(self, volume: VolumeLedger, image: Image, what: str) -> list[tuple[int, int]]:
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
            if history[place].word == word and sector not in history[place].gone:
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

    def _forked_place_of(self, volume: VolumeLedger, sector: int, word: int, machine: Any) -> int:
        """Give the change of a fork that a sector shows its place in history, and return it; -1 if it shows none."""
        history = volume.history[sector]
        for change in reversed(self._forks):
            if change.word == word and change.volume == volume.index and sector in change.sectors:
                if change.place.machine is not machine:
                    continue
                if change in history:
                    return history.index(change)
                if not word and any(not later.word and later.issued_at > change.issued_at for later in history):
                    return -1  # All zeros look the same: it may be of that one.
                place = next((n for n, c in enumerate(history) if c.issued_at >= change.forked_at), len(history))
                if self._tried is not None:
                    self._tried.append((volume, sector, place, volume.floor[sector]))
                history.insert(place, change)
                if place <= volume.floor[sector]:
                    volume.floor[sector] += 1
                return place
        return -1

    def _describe(self, word: int) -> str:
        change = self.by_number.get(word)
        return f"{word:#x}, which nobody wrote" if change is None and word else str(change or "zeros")


def _last_flushed(history: Sequence[Change], sector: int) -> int:
    """Return the place of the newest change that a host has flushed and no crash has taken back."""
    for place in range(len(history) - 1, 0, -1):
        change = history[place]
        if sector in change.unstable:
            break
        if change.is_flushed and sector not in change.gone and sector not in change.excused:
            return place
    return 0


def _place_for_good(history: Sequence[Change], sector: int, shown: int, place: Any, least: int = 0) -> int:
    """Return the place, `least` or higher, of what a disk of the process `place` shows and goes on to show.

    Nobody was told yet of what that process has not answered, and who reads it waits until somebody answers for it. Nor
    does anybody know which of those before it that nobody was told of lies under it; none that is gone does.
    """
    found = shown
    while shown > least and (
        sector in history[shown].gone
        or (history[shown].done_at is None and (history[shown].place is place or shown < found))
    ):
        shown -= 1
    return shown


def word_at(image: Image, sector: int) -> int:
    """Return what a sector shows."""
    return int.from_bytes(image[sector * SECTOR_BYTES : sector * SECTOR_BYTES + WORD_BYTES], "little")


def content_of(change: Change) -> bytes:
    """Return the bytes that a change puts on the disk."""
    return change.word.to_bytes(WORD_BYTES, "little") * (len(change.sectors) * WORDS_IN_SECTOR)
