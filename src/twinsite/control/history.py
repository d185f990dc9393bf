"""What each group did in the last hour: samples at fixed times of what nodes report about primaries. No I/O, no clock.

Reports come whenever something changed, so a group that does nothing costs nothing: no sample is stored as long as the
next one would say the same, and a tick looks only at groups that moved. What was left out is filled in when it is read,
for the times at which the site was heard; for the others there is no sample, because nobody knows.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from twinsite.messages import Mode, NodeReport, ObservedWorker, Role, WorkerStatus

INTERVAL_SECONDS = 10
"""Between two samples. Samples are at multiples of it since the epoch."""
HISTORY_SECONDS_MAX = 3600
"""What is kept."""
SAMPLES_MAX = HISTORY_SECONDS_MAX // INTERVAL_SECONDS
RATE_SECONDS_MIN = 1.5
"""Shortest time over which a present rate is told."""
RATE_SECONDS_MAX = 5.0
"""A primary that moves is heard more often than this; one that was not does nothing."""

assert HISTORY_SECONDS_MAX % INTERVAL_SECONDS == 0

_GAP = -1
_STILL = (0.0, 0.0, 0.0, 0.0, 0.0, math.nan)
"""The rates of who does nothing."""


class Totals(NamedTuple):
    """Counters of one primary, since its worker started."""

    writes: int
    write_bytes: int
    reads: int
    read_bytes: int
    sent_bytes: int
    acknowledged: int
    ack_seconds: float

    def since(self, before: Totals) -> Totals:
        """Return what came since; a counter that is lower than before has started anew."""
        return Totals._make(now - then if now >= then else now for now, then in zip(self, before, strict=True))


_NOTHING = Totals(0, 0, 0, 0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a group did in the time before `at` (seconds since the epoch), and how it was at the end of it."""

    at: float
    writes_per_second: float
    write_bytes_per_second: float
    reads_per_second: float
    read_bytes_per_second: float
    sent_bytes_per_second: float
    ack_seconds: float | None
    """Mean time from a write's arrival to its acknowledgement; None when none was acknowledged."""
    dirty_bytes: int
    resync_bytes_left: int
    is_holding: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A primary at one time, on whatever clock the caller has, in seconds."""

    at: float
    site: str
    term: int
    pid: int | None
    totals: Totals
    dirty_bytes: int
    resync_bytes_left: int
    is_holding: bool

    @classmethod
    def of(cls, at: float, site: str, worker: ObservedWorker) -> Seen | None:
        """Return what a report says of a primary; None when it is about something else."""
        status = worker.status
        if not worker.alive or status is None or status.role is not Role.PRIMARY:
            return None
        resync = status.resync
        is_left = resync is not None and resync.finished_at is None
        return cls(
            at=at,
            site=site,
            term=status.term,
            pid=worker.pid,
            totals=_totals(status),
            dirty_bytes=status.dirty_bytes,
            resync_bytes_left=max(0, resync.bytes_total - resync.bytes_done) if resync is not None and is_left else 0,
            is_holding=status.mode is Mode.HOLDING,
        )

    def since(self, before: Seen) -> Totals:
        """Return what was done since then, by another worker or at another site too."""
        is_same = (self.site, self.pid) == (before.site, before.pid)
        return self.totals.since(before.totals if is_same else _NOTHING)


def _totals(status: WorkerStatus) -> Totals:
    counters, activity = status.counters, status.activity
    return Totals(
        writes=counters.writes,
        write_bytes=counters.write_bytes,
        reads=counters.reads,
        read_bytes=counters.read_bytes,
        sent_bytes=counters.stream_bytes_sent,
        acknowledged=sum(activity.write_latency.counts) if activity is not None else 0,
        ack_seconds=activity.write_latency.seconds if activity is not None else 0.0,
    )


def _sample(at: float, done: Totals, seconds: float, seen: Seen) -> Sample:
    return Sample(
        at=at,
        writes_per_second=done.writes / seconds,
        write_bytes_per_second=done.write_bytes / seconds,
        reads_per_second=done.reads / seconds,
        read_bytes_per_second=done.read_bytes / seconds,
        sent_bytes_per_second=done.sent_bytes / seconds,
        ack_seconds=done.ack_seconds / done.acknowledged if done.acknowledged else None,
        dirty_bytes=seen.dirty_bytes,
        resync_bytes_left=seen.resync_bytes_left,
        is_holding=seen.is_holding,
    )


class _Series:
    """The samples of one group, packed: a busy installation has hundreds of thousands of them."""

    _ROW = struct.Struct("<qb6dQQ?")  # Tick, number of the site or _GAP, what a sample has.

    def __init__(self) -> None:
        self._rows: deque[bytes] = deque()
        self.is_quiet = False
        """The last sample is also the next one, if nothing is heard."""
        self.ends_in_gap = True
        self.seen: Seen | None = None
        """What the last sample was made of."""

    def add(self, tick: int, site_number: int, sample: Sample) -> None:
        """Append a sample."""
        ack_seconds = math.nan if sample.ack_seconds is None else sample.ack_seconds
        rates = (
            sample.writes_per_second,
            sample.write_bytes_per_second,
            sample.reads_per_second,
            sample.read_bytes_per_second,
            sample.sent_bytes_per_second,
            ack_seconds,
        )
        state = (sample.dirty_bytes, sample.resync_bytes_left, sample.is_holding)
        self._append(tick, self._ROW.pack(tick, site_number, *rates, *state))
        self.is_quiet = not any(rates[:-1])
        self.ends_in_gap = False

    def end(self, tick: int) -> None:
        """Nobody knows what comes after the last sample."""
        if not self.ends_in_gap:
            self._append(tick, self._ROW.pack(tick, _GAP, *[0.0] * 6, 0, 0, False))
        self.is_quiet = self.ends_in_gap = True

    def _append(self, tick: int, row: bytes) -> None:
        self._rows.append(row)
        # The newest one before the time that is kept says what was in its first moments.
        while len(self._rows) > 1 and self._ROW.unpack(self._rows[1])[0] <= tick - SAMPLES_MAX:
            self._rows.popleft()

    def last_tick(self) -> int:
        """Return when the newest sample is of."""
        return int(self._ROW.unpack(self._rows[-1])[0]) if self._rows else 0

    def samples(self, first: int, last: int, heard: list[frozenset[int]]) -> list[Sample]:
        """Return the samples of these ticks, both included; `heard` are the ticks at which each site was."""
        found: list[Sample] = []
        rows = [self._ROW.unpack(row) for row in self._rows]
        for position, row in enumerate(rows):
            tick, site_number = row[:2]
            end = rows[position + 1][0] if position + 1 < len(rows) else last + 1
            if site_number == _GAP:
                continue
            if first <= tick <= last:
                found.append(_unpacked(row, tick))
            found += [
                _unpacked(row, quiet) for quiet in range(max(first, tick + 1), end) if quiet in heard[site_number]
            ]
        return found


def _unpacked(row: tuple[int | float, ...], tick: int) -> Sample:
    """Return a row as the sample of a tick: of its own, or of one in which nothing happened any more."""
    writes, write_bytes, reads, read_bytes, sent_bytes, ack_seconds = row[2:8] if row[0] == tick else _STILL
    return Sample(
        at=float(tick * INTERVAL_SECONDS),
        writes_per_second=writes,
        write_bytes_per_second=write_bytes,
        reads_per_second=reads,
        read_bytes_per_second=read_bytes,
        sent_bytes_per_second=sent_bytes,
        ack_seconds=None if math.isnan(ack_seconds) else ack_seconds,
        dirty_bytes=int(row[8]),
        resync_bytes_left=int(row[9]),
        is_holding=bool(row[10]),
    )


class History:
    """The last hour of every group, and what it does now."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._latest: dict[str, Seen] = {}
        self._bases: dict[str, tuple[Seen, Seen]] = {}
        """What the present rate is counted from, and what it will be counted from when that is old enough."""
        self._series: dict[str, _Series] = {}
        self._moving: set[str] = set()  # Groups that a tick must look at.
        self._sites: list[str] = []
        self._heard: list[deque[int]] = []  # By the number of a site.
        self._tick = 0
        self._sampled_at = 0.0  # On the clock of `hear`.

    def hear(self, at: float, report: NodeReport) -> None:
        """Take in what a node reports, at `at` on the caller's clock."""
        for worker in report.workers:
            self.hear_worker(at, report.site, worker)
        gone = report.gone_workers
        if report.basis is None:
            known = {worker.id for worker in report.workers}
            gone = [group_id for group_id in self.groups_at(report.site) if group_id not in known]
        for group_id in gone:
            self._lose(group_id, report.site)

    def hear_worker(self, at: float, site: str, worker: ObservedWorker) -> None:
        """Take in what is reported of one worker."""
        seen = Seen.of(at, site, worker)
        if seen is None:
            self._lose(worker.id, site)
            return
        latest = self._latest.get(worker.id)
        if latest is not None and latest.site != site and latest.term > seen.term:
            return  # It has not heard yet that it was replaced.
        _, coming = self._bases.setdefault(worker.id, (seen, seen))
        if at - coming.at >= RATE_SECONDS_MIN:
            self._bases[worker.id] = (coming, seen)
        self._latest[worker.id] = seen
        self._moving.add(worker.id)

    def groups_at(self, site: str) -> list[str]:
        """Return the groups whose primary is known to be there."""
        return [group_id for group_id, seen in self._latest.items() if seen.site == site]

    def _lose(self, group_id: str, site: str) -> None:
        latest = self._latest.get(group_id)
        if latest is not None and latest.site == site:
            del self._latest[group_id]
            del self._bases[group_id]
            self._moving.add(group_id)

    def sample(self, tick: int, now: float, heard_sites: frozenset[str]) -> None:
        """Take the samples of a tick, that is of the time `tick * INTERVAL_SECONDS` since the epoch.

        `now` is on the clock of `hear`. A tick that was had already, as after a clock was set back, counts for nothing.
        """
        if tick <= self._tick:
            return
        for site in heard_sites:
            self._heard[self._site_number(site)].append(tick)
        moving, self._moving = self._moving, set()
        for group_id in moving:
            self._sample_one(group_id, tick, now)
        self._tick, self._sampled_at = tick, now
        if tick % SAMPLES_MAX == 0:
            self._forget_old(tick)

    def _sample_one(self, group_id: str, tick: int, now: float) -> None:
        seen = self._latest.get(group_id)
        series = self._series.setdefault(group_id, _Series())
        if seen is None:
            series.end(tick)
            return
        before = series.seen
        if before is None:
            # What came before is not known, so this is where counting begins.
            series.seen = seen
            self._moving.add(group_id)
            return
        is_news = seen.at > before.at
        done = seen.since(before) if is_news else _NOTHING
        seconds = max(seen.at - self._known_until(before), RATE_SECONDS_MIN) if is_news else INTERVAL_SECONDS
        series.add(tick, self._site_number(seen.site), _sample(float(tick), done, seconds, seen))
        series.seen = seen
        if not series.is_quiet:
            self._moving.add(group_id)

    def _known_until(self, before: Seen) -> float:
        """Return until when nothing more was done: who moves is heard often, and who is not heard rests."""
        is_heard = self._tick in self._heard[self._site_number(before.site)]
        rests = is_heard and self._sampled_at - before.at >= RATE_SECONDS_MAX
        return self._sampled_at if rests else before.at

    def _site_number(self, site: str) -> int:
        if site not in self._sites:
            self._sites.append(site)
            self._heard.append(deque(maxlen=SAMPLES_MAX))
        return self._sites.index(site)

    def _forget_old(self, tick: int) -> None:
        old = [group_id for group_id, series in self._series.items() if series.last_tick() < tick - SAMPLES_MAX]
        for group_id in old:
            if group_id not in self._latest:
                del self._series[group_id]

    def samples(self, group_id: str, seconds: int) -> list[Sample]:
        """Return a group's samples of the last `seconds` before the last tick, the oldest first."""
        series = self._series.get(group_id)
        if series is None:
            return []
        count = min(-(-seconds // INTERVAL_SECONDS), SAMPLES_MAX)
        return series.samples(self._tick - count + 1, self._tick, [frozenset(ticks) for ticks in self._heard])

    def present(self, group_id: str, now: float, at: float) -> Sample | None:
        """Return what a group does now; None when its primary is not heard of.

        `now` is on the clock of `hear`, `at` is the same moment since the epoch.
        """
        seen = self._latest.get(group_id)
        if seen is None:
            return None
        before, _ = self._bases[group_id]
        if now - seen.at > RATE_SECONDS_MAX or seen.at - before.at <= 0:
            return _sample(at, _NOTHING, RATE_SECONDS_MIN, seen)
        # A primary that was still is heard again with its first movement.
        seconds = min(max(seen.at - before.at, RATE_SECONDS_MIN), RATE_SECONDS_MAX)
        return _sample(at, seen.since(before), seconds, seen)
