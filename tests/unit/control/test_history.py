"""The last hour of groups, made of what nodes report."""

from __future__ import annotations

import dataclasses

import pytest

from twinsite.control.history import INTERVAL_SECONDS, SAMPLES_MAX, History, Sample
from twinsite.latency import LatencyRecorder
from twinsite.messages import (
    Activity,
    Counters,
    Mode,
    NodeReport,
    ObservedWorker,
    PoolReport,
    ResyncReport,
    Role,
    WorkerStatus,
)

BOTH = frozenset({"az1", "az2"})
START = 1000  # The first tick.


def primary(
    writes: int = 0, group_id: str = "g", *, role: Role = Role.PRIMARY, pid: int = 1, **values: object
) -> ObservedWorker:
    """Return what is observed of a primary that has done so many writes of 4 KiB, each acknowledged in 2 ms."""
    latency = LatencyRecorder()
    latency.add(0.002, writes)
    counters = Counters(writes=writes, write_bytes=4096 * writes, reads=2 * writes, stream_bytes_sent=5000 * writes)
    activity = Activity(write_latency=latency.latency())
    status = WorkerStatus(group_id, 1, role, Mode.IN_SYNC, 1, [], counters=counters, activity=activity)
    return ObservedWorker(group_id, alive=True, pid=pid, status=dataclasses.replace(status, **values))  # type: ignore[arg-type]


def report(*workers: ObservedWorker, site: str = "az1", basis: str | None = "before", **values: object) -> NodeReport:
    """Return a node's report of what is new."""
    made = NodeReport(site, "n", 1, 0.0, PoolReport(1, 1), [], list(workers), basis=basis)
    return dataclasses.replace(made, **values)  # type: ignore[arg-type]


class Clock:
    """A history with a clock that a test moves: both its clocks show the same."""

    def __init__(self) -> None:
        self.history = History()
        self.tick = START

    @property
    def now(self) -> float:
        """Return the time."""
        return float(self.tick * INTERVAL_SECONDS)

    def next(self, *reports: NodeReport, before_end: float = 1.0, heard: frozenset[str] = BOTH) -> None:
        """Go to the next tick; the reports come shortly before it."""
        self.tick += 1
        for made in reports:
            self.history.hear(self.now - before_end, made)
        self.history.sample(self.tick, self.now, heard)

    def samples(self, seconds: int = 3600) -> list[Sample]:
        """Return what is known."""
        return self.history.samples("g", seconds)

    def rates(self) -> list[float]:
        """Return the writes a second."""
        return [sample.writes_per_second for sample in self.samples()]


def test_rates_are_what_was_done_over_the_time_between_reports() -> None:
    clock = Clock()
    clock.next(report(primary(100)))
    assert clock.samples() == [], "of what came before nothing is known"
    clock.next(report(primary(300)))
    (sample,) = clock.samples()
    assert (sample.at, sample.writes_per_second, sample.write_bytes_per_second) == (clock.now, 20.0, 81920.0)
    assert (sample.reads_per_second, sample.sent_bytes_per_second) == (40.0, 100000.0)
    assert sample.ack_seconds == pytest.approx(0.002)


def test_what_moves_on_seldom_is_not_counted_twice_and_not_lost() -> None:
    clock = Clock()
    clock.next(report(primary(0)))
    for writes in (50, 90, 90, 210):
        clock.next(report(primary(writes)), before_end=3.0)
    assert sum(clock.rates()) * INTERVAL_SECONDS == pytest.approx(210, rel=0.3)


def test_a_group_that_does_nothing_is_known_and_costs_nothing() -> None:
    clock = Clock()
    clock.next(report(primary(0)))
    clock.next(report(primary(100, dirty_bytes=7)))
    for _ in range(5):
        clock.next()
    assert clock.rates()[0] > 0
    assert clock.rates()[1:] == [0.0] * 5
    assert [sample.dirty_bytes for sample in clock.samples()] == [7] * 6
    assert [sample.at for sample in clock.samples()] == [float(10 * tick) for tick in range(START + 2, START + 8)]
    assert clock.samples()[-1].ack_seconds is None
    stored = clock.history._series["g"]
    assert len(stored._rows) == 2
    assert not clock.history._moving, "a tick looks at no group that does nothing"


def test_the_first_movement_after_a_rest_belongs_to_its_own_interval() -> None:
    clock = Clock()
    clock.next(report(primary(0)))
    for _ in range(100):
        clock.next()
    clock.next(report(primary(500)), before_end=0.0)
    assert clock.rates()[-1] == pytest.approx(50.0)


def test_there_is_no_sample_of_times_in_which_the_site_was_silent() -> None:
    clock = Clock()
    clock.next(report(primary(0)))
    clock.next(report(primary(10)))
    clock.next()
    clock.next(heard=frozenset({"az2"}))
    clock.next(heard=frozenset({"az2"}))
    clock.next()
    found = [round(sample.at / INTERVAL_SECONDS) - START for sample in clock.samples()]
    assert found == [2, 3, 6]


@pytest.mark.parametrize("pid", [1, 2])
def test_counters_that_fall_have_started_anew(pid: int) -> None:
    clock = Clock()
    clock.next(report(primary(1000)))
    clock.next(report(primary(1000)))
    clock.next(report(primary(200, pid=pid)))
    assert clock.rates()[-1] == pytest.approx(20.0)


def test_a_restarted_worker_that_has_done_more_than_the_one_before_it() -> None:
    clock = Clock()
    clock.next(report(primary(10)))
    clock.next(report(primary(100, pid=2)))
    assert clock.rates() == [10.0]


def test_what_ends_is_not_known_any_more() -> None:
    for end in (
        report(gone_workers=["g"]),
        report(basis=None),
        report(primary(1, role=Role.SECONDARY)),
        report(ObservedWorker("g", alive=False)),
    ):
        clock = Clock()
        clock.next(report(primary(0)))
        clock.next(report(primary(1)))
        clock.next(end)
        clock.next()
        assert len(clock.samples()) == 1
        assert clock.history.present("g", clock.now, clock.now) is None
        clock.next(report(primary(0, pid=9)))
        assert len(clock.samples()) == 2


def test_the_site_with_the_higher_term_is_the_primary() -> None:
    clock = Clock()
    clock.next(report(primary(100, term=1)))
    clock.next(report(primary(50, term=2, pid=7), site="az2"), report(primary(900, term=1)))
    clock.next(report(primary(901, term=1)), report(gone_workers=["g"]))
    assert [sample.writes_per_second for sample in clock.samples()] == [5.0, 0.0]
    clock.next(heard=frozenset({"az1"}))
    assert len(clock.samples()) == 2, "the site of the primary is silent"


def test_an_hour_is_kept_and_no_more() -> None:
    clock = Clock()
    for number in range(2 * SAMPLES_MAX):
        clock.next(report(primary(100 * number)))
    assert len(clock.samples()) == SAMPLES_MAX
    assert len(clock.samples(60)) == 6
    assert len(clock.samples(1)) == 1
    assert len(clock.history._series["g"]._rows) <= SAMPLES_MAX + 1
    for _ in range(2 * SAMPLES_MAX):
        clock.next()
    assert clock.rates() == [0.0] * SAMPLES_MAX
    clock.next(report(gone_workers=["g"]))
    for _ in range(3 * SAMPLES_MAX):
        clock.next()
    assert not clock.history._series
    assert not clock.samples()


def test_a_clock_that_is_set_back_makes_no_sample() -> None:
    clock = Clock()
    for number in range(3):
        clock.next(report(primary(number)))
    clock.history.sample(START, clock.now, BOTH)
    clock.history.sample(clock.tick, clock.now, BOTH)
    assert len(clock.samples()) == 2


def test_holds_and_what_a_resync_has_left() -> None:
    clock = Clock()
    clock.next(report(primary()))
    resync = ResyncReport("full", 1.0, None, 100, 30, 0, 0, 1.0, None)
    clock.next(report(primary(mode=Mode.COPYING, resync=resync)))
    clock.next(report(primary(mode=Mode.HOLDING, resync=dataclasses.replace(resync, finished_at=2.0))))
    assert [(sample.resync_bytes_left, sample.is_holding) for sample in clock.samples()] == [(70, False), (0, True)]


def test_the_present() -> None:
    history = History()
    assert history.present("g", 0.0, 0.0) is None
    for number in range(11):
        history.hear(0.2 * number, report(primary(10 * number)))
    now = history.present("g", 2.0, 5.0)
    assert now is not None
    assert now.writes_per_second == pytest.approx(50.0)
    assert now.at == 5.0
    later = history.present("g", 20.0, 23.0)
    assert later is not None
    assert (later.writes_per_second, later.ack_seconds) == (0.0, None)
    history.hear(100.0, report(primary(110)))
    again = history.present("g", 100.0, 0.0)
    assert again is not None
    assert again.writes_per_second > 0
