"""The arbiter's rules: who is primary, and may it go on without its secondary? Pure; the controller stores the row.

One row per group. Every change is one compare-and-swap on `version`, durable before it is answered. The invariants:

- the term only grows, and only `promote` and `switch` raise it;
- `secondary` becomes STALE only by the current primary's own wish or by raising the term, and IN_SYNC again only by the
  current primary's wish;
- every granted call raises `version`, so a call that was delayed on its way, and names the version that its sender saw,
  cannot undo what came after it. Without that, a late `secondary_in_sync` could follow the `suspend_secondary` of the
  same primary and promise a secondary that nobody waits for.

A refused call changes nothing and says what the row is, so that the caller can decide anew.

A database that was restored from a backup has forgotten calls. Its rows are marked with the sites that have not been
heard of since (`unheard`), and nothing is granted by them, except by force: the other two of three have to say what
they know. `hear` takes that in. Only the primary of a term changes the row within that term, so its own last word is
the row that was forgotten; and who has taken part in a later term knows who was promoted with it.

In one history `version` and the term only grow, and a term has one primary. So a site that knows of a higher version
under a lower term than the row's own, or of another primary under the same, contradicts it: the row is of another
history, which a restored database has left and another one brought back, and the site is right. That such a site knows
a higher version is seen to: what is restored goes on with versions and terms that no other history has reached, not
even one of which no site has heard (`Reached`). Who was given up, or promoted away by force, is not asked any more, and
contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Secondary(StrEnum):
    """What the arbiter knows of the secondary's image."""

    IN_SYNC = "in_sync"  # It has every acknowledged write: an unforced failover loses nothing.
    STALE = "stale"  # The primary acknowledges writes without it.


class Reason(StrEnum):
    """Why a call was refused."""

    OTHER_VERSION = "other_version"  # Something came between: look at the row and decide anew.
    OTHER_TERM = "other_term"  # The caller was replaced, or is ahead of this database.
    NOT_PRIMARY = "not_primary"
    ALREADY_PRIMARY = "already_primary"
    STALE = "stale"  # An unforced promotion would lose acknowledged writes.
    UNHEARD = "unheard"  # The database was restored from a backup, and not every site has said since what it knows.


FORGOTTEN_TERMS_MAX = 1_000_000
"""By how much a forced promotion raises the term of a row that may have forgotten some."""

FORGOTTEN_VERSIONS_MAX = 1_000_000_000
"""By how much the version grows when a row that may have forgotten some is believed again."""

FORCED_VERSIONS = 1_000_000_000_000
"""By how much it grows when somebody decides without the sites that know more: beyond what they do."""

VERSION_MAX = 2**62
"""No honest version or term comes near it: what is higher is damage. Databases take twice as much."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The highest term and version of all histories that there were, as far as the controller itself remembers."""

    term: int = 0
    version: int = 0

    def joined(self, term: int, version: int) -> Reached:
        """Return the highest of this and of another history."""
        return Reached(max(self.term, term), max(self.version, version))


@dataclass(frozen=True, slots=True)
class Row:
    """What is recorded of a group. Times are seconds since the epoch and inform people only."""

    term: int
    primary_site: str
    secondary: Secondary
    stale_since: float | None
    version: int
    unheard: list[str] = field(default_factory=list)  # Sites that know of calls which this row may have forgotten.
    question: str = ""  # The name of the restoration that they are asked after, while there are any.
    reached: Reached = (
        Reached()
    )  # As the controller remembered at the last restoration, and who has spoken since knows.


@dataclass(frozen=True, slots=True)
class Known:
    """What a site's worker knows of a row: the term, and a version that it has reached at least.

    `in_sync` and `stale_since` are what the row said in that version, as a primary was answered last.
    """

    site: str
    other_site: str
    is_primary: bool
    term: int
    version: int = 0
    in_sync: bool = False
    stale_since: float | None = None
    answers: str | None = None  # The question that it had been told, with no call on its way; None: it knows of none.


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call changed nothing; `row` is what holds."""

    reason: Reason
    row: Row


def first_row(primary_site: str, now: float) -> Row:
    """Return the row of a new group: nothing was ever synchronized."""
    return Row(term=1, primary_site=primary_site, secondary=Secondary.STALE, stale_since=now, version=1)


def suspend_secondary(row: Row, *, site: str, term: int, version: int, now: float) -> Row | Refusal:
    """The primary asks to acknowledge writes without the secondary.

    Granted even when the secondary is stale already: the version must grow, or a `secondary_in_sync` that is still on
    its way could be applied afterwards.
    """
    refusal = _check_primary(row, site, term, version)
    if refusal is not None:
        return refusal
    stale_since = row.stale_since if row.secondary is Secondary.STALE else now
    return replace(row, secondary=Secondary.STALE, stale_since=stale_since, version=row.version + 1)


def secondary_in_sync(row: Row, *, site: str, term: int, version: int) -> Row | Refusal:
    """The primary says that it waits for the secondary again, and that the secondary has everything."""
    refusal = _check_primary(row, site, term, version)
    if refusal is not None:
        return refusal
    return replace(row, secondary=Secondary.IN_SYNC, stale_since=None, version=row.version + 1)


def promote(row: Row, *, site: str, version: int, force: bool, now: float) -> Row | Refusal:
    """Fail over to `site`. Refused while its image is stale, unless forced.

    The site that was primary is stale from then on: what it may have written alone is not the group's history.
    """
    if row.version != version:
        return Refusal(Reason.OTHER_VERSION, row)
    if row.primary_site == site:
        return Refusal(Reason.ALREADY_PRIMARY, row)
    if row.unheard and not force:
        return Refusal(Reason.UNHEARD, row)
    if row.secondary is Secondary.STALE and not force:
        return Refusal(Reason.STALE, row)
    # No forgotten promotion may have had this term, or two sites would be primary under it.
    term = _unused_term(row) if row.unheard else row.term + 1
    version = _unused_version(row, FORCED_VERSIONS) if row.unheard else row.version + 1
    return replace(
        row,
        term=term,
        primary_site=site,
        secondary=Secondary.STALE,
        stale_since=now,
        version=version,
        unheard=[],
        question="",
    )


def switch(row: Row, *, site: str, term: int, version: int) -> Row | Refusal:
    """Planned switchover to `site`, after the primary of `term` has stopped acknowledging and both sides are flushed.

    Both images are equal, so the new secondary is in sync: the new primary starts by waiting for it.
    """
    if row.term != term:
        return Refusal(Reason.OTHER_TERM, row)
    if row.version != version:
        return Refusal(Reason.OTHER_VERSION, row)
    if row.primary_site == site:
        return Refusal(Reason.ALREADY_PRIMARY, row)
    if row.unheard:
        return Refusal(Reason.UNHEARD, row)
    if row.secondary is Secondary.STALE:
        return Refusal(Reason.STALE, row)
    return replace(row, term=row.term + 1, primary_site=site, version=row.version + 1)


def forget(row: Row, sites: Collection[str], question: str, reached: Reached) -> Row:
    """The database was restored from a backup: these sites have to say what they know before anything is granted.

    `question` names the restoration, and has never been used before. Only an answer to it counts: what a worker says
    may have been said before that, and a grant of the database that was replaced may still be on its way to it.
    """
    return replace(
        row,
        unheard=sorted(sites),
        question=question if sites else "",
        reached=row.reached.joined(reached.term, reached.version),
    )


def give_up(row: Row, sites: Collection[str]) -> Row:
    """An operator waits no more for what these sites know: nobody vouches for the secondary then.

    The term jumps, so that no promotion that was forgotten can outbid what is decided now.
    """
    if not set(sites) & set(row.unheard):
        return row
    unheard = [site for site in row.unheard if site not in sites]
    return replace(
        row,
        term=_unused_term(row),
        secondary=Secondary.STALE,
        stale_since=row.stale_since if row.secondary is Secondary.STALE else None,
        version=_unused_version(row, FORCED_VERSIONS),
        unheard=unheard,
        question=row.question if unheard else "",
    )


def hear(row: Row, known: Known) -> Row:
    """Take in what a worker knows of the row. It knows more only if the database was restored from a backup.

    The secondary becomes IN_SYNC by that only if the primary itself was told so; where a promotion was forgotten nobody
    knows, and it is STALE, since nobody knows when. A primary that has forgotten it, too, reports it anew.
    """
    learned = learn(row, known)
    if row.unheard:
        # Whether it was asked or not: whoever decides by force goes beyond that.
        learned = replace(learned, reached=row.reached.joined(known.term, known.version))
    if known.site not in row.unheard or known.answers not in (None, row.question):
        return learned
    if known.is_primary and (known.term, known.site) == (learned.term, learned.primary_site):
        # What it has done since its last answer, nobody knows better. The row may have its version from the other site.
        secondary = Secondary.IN_SYNC if known.in_sync else Secondary.STALE
        learned = replace(learned, secondary=secondary, stale_since=None if known.in_sync else known.stale_since)
    # What it has heard of the row, others may have acted on.
    learned = replace(learned, version=max(learned.version, known.version))
    unheard = [site for site in row.unheard if site != known.site]
    if unheard:
        return replace(learned, unheard=unheard)
    return replace(learned, version=_unused_version(learned, FORGOTTEN_VERSIONS_MAX), unheard=[], question="")


def learn(row: Row, known: Known) -> Row:
    """Return the row as a worker knows it, where that is newer; the very row where it is not."""
    is_later = known.version > row.version
    primary_site = known.site if known.is_primary else known.other_site
    contradicts = is_later and known.site in row.unheard
    if known.term < row.term:
        if not contradicts:
            return row
        # What was promoted in a history that the sites have left may be known under any of its terms.
        term = _unused_term(row)
    elif known.term == row.term:
        is_same = primary_site == row.primary_site
        if not (is_later and known.is_primary) if is_same else not contradicts:
            return row
        term = row.term if is_same else _unused_term(row)
    else:
        term = known.term
    is_last_word = known.is_primary and is_later
    is_in_sync = is_last_word and known.in_sync
    return replace(
        row,
        term=term,
        primary_site=primary_site,
        secondary=Secondary.IN_SYNC if is_in_sync else Secondary.STALE,
        stale_since=known.stale_since if is_last_word and not is_in_sync else None,
        version=max(row.version, known.version),
    )


def restoration_of(version: int) -> int:
    """Return the lowest version since the restoration that this one follows: what a site has to remember of it."""
    return version - version % FORGOTTEN_VERSIONS_MAX


def _unused_term(row: Row) -> int:
    """Return a term that nobody was promoted with in any history."""
    return max(row.term, row.reached.term) + FORGOTTEN_TERMS_MAX


def _unused_version(row: Row, further: int) -> int:
    """Return a version that is so much further than that of any history."""
    return max(row.version, row.reached.version) + further


def _check_primary(row: Row, site: str, term: int, version: int) -> Refusal | None:
    if row.term != term:
        return Refusal(Reason.OTHER_TERM, row)
    if row.primary_site != site:
        return Refusal(Reason.NOT_PRIMARY, row)
    if row.unheard:
        return Refusal(Reason.UNHEARD, row)
    if row.version != version:
        return Refusal(Reason.OTHER_VERSION, row)
    return None
