"""The arbiter's rules where the database is restored from backups again and again: a random model of an installation.

Two honest workers, eager operators, a controller that remembers how far the rows have come. Who has acknowledged
writes alone, by a grant, is protected: its twin lacks them. They must not be lost unless somebody accepts that by
force. That ends the protection of the site that is decided against, until it is told that it is primary of its very
term still, or gets a new grant.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from twinsite.core import arbiter
from twinsite.core.arbiter import Known, Reached, Refusal, Row, Secondary

NOW = 1.0
STEPS = 250
SEEDS_PER_CHUNK = 250
STORY_LINES_MAX = 30


class Broken(Exception):
    """What must never happen did."""


@dataclass(slots=True)
class Side:
    """A site's worker: what it has made durable, and what else it knows."""

    site: str
    other_site: str
    term: int = 0  # 0: it was never told one.
    is_primary: bool = False
    row_version: int = 0  # Of the grant that let it go on alone.
    believed_version: int = 0
    newest: Row | None = None  # Of all that it was answered in this role and that were believed.
    question: str = ""
    is_alone: bool = False  # It has acknowledged without its twin, which has not been in sync since.
    is_protected: bool = False  # And nobody has accepted by force that this may be lost.

    def take(self, row: Row) -> None:
        """Do as the spec says that comes from this row. No worker goes back, or follows a row that is not believed."""
        self.question = row.question
        if row.unheard or row.term < self.term:
            return
        is_primary = row.primary_site == self.site
        if self.is_protected and not is_primary:
            raise Broken(f"{self.site} has acknowledged alone and is told that it was replaced")
        if (row.term, is_primary) != (self.term, self.is_primary):
            self.term, self.is_primary, self.newest = row.term, is_primary, None
            self.is_alone = self.is_protected  # Whom force decided against needs a grant of its new term.
        self.is_protected = self.is_alone  # It goes on: what was decided against it is forgotten.
        self.believed_version = max(self.believed_version, arbiter.restoration_of(row.version))

    def learn(self, answer: Row | Refusal) -> Row | None:
        """Take the arbiter's answer; return the row if the call was granted."""
        row = answer.row if isinstance(answer, Refusal) else answer
        is_newer = self.newest is None or row.version > self.newest.version
        if not row.unheard and row.term >= self.term and is_newer:
            self.newest = row
        return row if row is answer else None

    def known(self) -> Known:
        """Return what it says that it knows."""
        term, is_primary, version, is_in_sync = self.term, self.is_primary, self.row_version, False
        if self.newest is not None and self.newest.version > version:
            version, is_in_sync = self.newest.version, self.newest.secondary is Secondary.IN_SYNC
            if self.newest.term > term:
                term, is_primary = self.newest.term, self.newest.primary_site == self.site
        version, stale_since = max(version, self.believed_version), None if is_in_sync else NOW
        return Known(self.site, self.other_site, is_primary, term, version, is_in_sync, stale_since, self.question)


class Installation:
    """The row, its backups, what the controller remembers beside the database, and the two sites.

    What may happen is a method that takes a site, and does nothing where it cannot happen now.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.sides = {"az1": Side("az1", "az2"), "az2": Side("az2", "az1")}
        self.story: list[tuple[object, ...]] = []
        self.backups: list[Row] = []
        self.restorations = 0
        self.was_forced = False  # Since the last restoration.
        self.primaries: dict[int, str] = {}  # By term, as the sites were told.
        self.remembered = Reached()
        self._store(arbiter.first_row("az1", NOW), "created")

    def tell(self, side: Side) -> None:
        self.story.append((side.site, "is told"))
        side.take(self.row)
        named = self.row.primary_site
        if side.term == self.row.term and self.primaries.setdefault(side.term, named) != named:
            raise Broken(f"both sites are primary under term {side.term}")

    def report(self, side: Side) -> None:
        before, known = self.row, side.known()
        self._store(arbiter.hear(before, known) if side.term else before, known)
        if before.unheard and not self.row.unheard:
            self._check_believed()

    def suspend(self, side: Side) -> None:
        row = self.row
        if side.is_primary:
            answer = arbiter.suspend_secondary(row, site=side.site, term=side.term, version=row.version, now=NOW)
            if (granted := side.learn(answer)) is not None:
                side.row_version, side.is_alone, side.is_protected = granted.version, True, True
                self._store(granted, side.site, "goes on alone")

    def report_in_sync(self, side: Side) -> None:
        row, twin = self.row, self.sides[side.other_site]
        if side.is_primary and (twin.term, twin.is_primary) == (side.term, False):
            answer = arbiter.secondary_in_sync(row, site=side.site, term=side.term, version=row.version)
            if (granted := side.learn(answer)) is not None:
                side.is_alone = side.is_protected = False
                self._store(granted, side.site, "has its twin in sync")

    def promote(self, side: Side) -> None:
        row = arbiter.promote(self.row, site=side.site, version=self.row.version, force=False, now=NOW)
        if isinstance(row, Row):
            self._store(row, side.site, "is promoted")
            if self.sides[side.other_site].is_protected:
                raise Broken(f"{side.other_site} has acknowledged alone, and its twin is promoted without force")

    def switch(self, side: Side) -> None:
        row = arbiter.switch(self.row, site=side.site, term=self.row.term, version=self.row.version)
        if isinstance(row, Row) and not self.sides[side.other_site].is_alone:  # Both images are made equal first.
            self._store(row, side.site, "is switched to")

    def promote_by_force(self, side: Side) -> None:
        row = arbiter.promote(self.row, site=side.site, version=self.row.version, force=True, now=NOW)
        if isinstance(row, Row) and side.term:  # Nobody would, where the site has never taken part.
            self._force(row, side.site, "is promoted by force")

    def give_up(self, side: Side) -> None:
        sites = self.rng.choice([[side.site], self.row.unheard])
        self._force(arbiter.give_up(self.row, sites), *sites, "given up")

    def back_up(self, _: Side) -> None:
        self.backups.append(self.row)

    def restore(self, _: Side) -> None:
        if self.backups:
            at = self.rng.randrange(len(self.backups))
            backup, self.backups[at] = self.backups[at], self.row  # What is left may come back, too.
            self.restorations += 1
            self.was_forced = False
            question = f"restoration {self.restorations}"
            self._store(arbiter.forget(backup, list(self.sides), question, self.remembered), "restored")

    def _force(self, row: Row, *what: str) -> None:
        if row != self.row:
            self._store(row, *what)
            self.was_forced = True
            self.sides[self.sides[row.primary_site].other_site].is_protected = False

    def _check_believed(self) -> None:
        """Check the row, now that nobody is waited for. After force it may say less than a site knows."""
        for side in self.sides.values():
            is_safe = self.row.primary_site == side.site and self.row.secondary is Secondary.STALE
            if side.is_protected and not is_safe and not self.was_forced:
                raise Broken(f"{side.site} has acknowledged alone, and the row that is believed does not say so")

    def _store(self, row: Row, *what: object) -> None:
        self.row = row
        self._remember(row)
        self.story.append((*what, "->", row))

    def _remember(self, row: Row) -> None:
        self.remembered = self.remembered.joined(row.term, row.version)


class Forgetful(Installation):
    """One whose controller remembers nothing but what the database says."""

    def _remember(self, row: Row) -> None:
        pass


Action = Callable[[Installation, Side], None]

UNFORCED: list[Action] = [
    *[Installation.tell, Installation.report] * 8,
    *[Installation.suspend, Installation.report_in_sync] * 2,
    *[Installation.promote, Installation.switch, Installation.back_up, Installation.restore],
]
FORCED = [*UNFORCED, Installation.promote_by_force, Installation.give_up]


def failure_of(installation: Installation, actions: list[Action]) -> str:
    """Let anything happen; return what must never happen, with the end of the story, or nothing."""
    sides, rng = list(installation.sides.values()), installation.rng
    try:
        for _ in range(STEPS):
            rng.choice(actions)(installation, rng.choice(sides))
    except Broken as broken:
        lines = [" ".join(map(str, words)) for words in installation.story[-STORY_LINES_MAX:]]
        return "\n".join([f"seed {installation.seed}: {broken}, after", *lines])
    return ""


@pytest.mark.parametrize("chunk", range(5))
@pytest.mark.parametrize("actions", [UNFORCED, FORCED], ids=["unforced", "forced"])
def test_no_restoration_loses_what_a_site_acknowledged_alone(actions: list[Action], chunk: int) -> None:
    for seed in range(chunk * SEEDS_PER_CHUNK, (chunk + 1) * SEEDS_PER_CHUNK):
        failure = failure_of(Installation(seed), actions)
        assert not failure, failure


def test_what_was_decided_by_force_comes_back_where_the_controller_remembers_nothing() -> None:
    assert any(failure_of(Forgetful(seed), FORCED) for seed in range(SEEDS_PER_CHUNK))
