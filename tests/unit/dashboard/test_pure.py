"""What the page says and draws: words for every state, times, charts, arrows, and the plan of the guided form."""

from __future__ import annotations

import datetime
import itertools
import re
from xml.etree import ElementTree

import pytest

from twinsite.dashboard.figures import arrow
from twinsite.dashboard.sparkline import HEIGHT, MARGIN, WIDTH, sparkline
from twinsite.dashboard.words import NOTHING, Flow, Tone, condition, duration, latency, since

STATUSES = (
    *("creating", "available", "error", "deleting", "error_deleting", "updating", "reversing", "error_reversing"),
    *("failovering", "failovered", "error_failovering"),
)
REPLICATION = ("active", "active-stopped", "copying", "inactive", "error")
NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("status", "replication", "fault", "held", "tone", "words"),
    [
        ("available", "active", "0", False, Tone.OK, "In sync"),
        ("available", "active", "0", True, Tone.CRITICAL, "Writes are held"),
        ("available", "active", "2", False, Tone.CRITICAL, "Production is lost or fails"),
        ("available", "copying", "0", False, Tone.NOTICE, "Copying, 42 %"),
        ("available", "active-stopped", "0", False, Tone.WARNING, "Paused"),
        ("available", "inactive", "0", False, Tone.WARNING, "Not in sync"),
        ("available", "inactive", "5", False, Tone.WARNING, "Interrupted, not protected"),
        ("available", "error", "0", False, Tone.CRITICAL, "Error"),
        ("failovered", "active-stopped", "0", False, Tone.WARNING, "Failed over, not protected"),
        ("reversing", "active", "0", True, Tone.NOTICE, "Switching over"),
        ("error_failovering", "active-stopped", "2", False, Tone.CRITICAL, "Failover failed"),
    ],
)
def test_a_state_has_words_and_a_tone(
    status: str, replication: str, fault: str, held: bool, tone: Tone, words: str
) -> None:
    found = condition(status, replication, fault, 42, is_held=held)
    assert (found.tone, found.words) == (tone, words)


def test_nothing_but_a_group_in_sync_looks_in_order() -> None:
    for status, replication, fault, held in itertools.product(STATUSES, REPLICATION, ("0", "2", "5"), (False, True)):
        found = condition(status, replication, fault, None, is_held=held)
        assert found.words, (status, replication, fault, held)
        if found.tone is Tone.OK:
            assert (status, replication, held) == ("available", "active", False)
            assert fault != "2"
        assert (found.flow is Flow.RUNNING) == (found.tone is Tone.OK), "the arrow says the same"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3599.7, "1 h"),
        (7260, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_the_two_units_that_matter(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times_are_in_utc_and_say_how_long_ago() -> None:
    assert since(NOON, NOON + datetime.timedelta(minutes=3)) == "2026-11-24 12:00:00 UTC (3 min)"
    assert since(None, NOON) == NOTHING
    assert (latency(0.00123), latency(2), latency(None)) == ("1.2 ms", "2.0 s", NOTHING)


def points(svg: str) -> list[list[tuple[float, float]]]:
    """Return the lines of a chart, which must be well-formed."""
    lines = [line.attrib["points"] for line in ElementTree.fromstring(svg).iter("polyline")]
    pairs = [[point.split(",") for point in line.split()] for line in lines]
    return [[(float(x), float(y)) for x, y in line] for line in pairs]


def test_a_chart_begins_at_nothing_and_ends_at_the_greatest() -> None:
    (line,) = points(sparkline([0, 5, 10], "Writes"))
    assert line == [(MARGIN, HEIGHT - MARGIN), (WIDTH / 2, HEIGHT / 2), (WIDTH - MARGIN, MARGIN)]


def test_what_is_not_known_is_a_gap() -> None:
    first, last = points(sparkline([1, 2, None, 4], "Latency"))
    assert len(first) == 2
    assert len(last) == 2, "a sample that stands alone is a dash"


@pytest.mark.parametrize("values", [[], [None], [0.0], [0, 0, 0], [1e300, 1]])
def test_any_samples_make_a_chart(values: list[float | None]) -> None:
    for line in points(sparkline(values, "x")):
        for x, y in line:
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_the_words_of_a_chart_are_text() -> None:
    root = ElementTree.fromstring(sparkline([1], '"><script>'))
    assert root.attrib["aria-label"] == '"><script>'


def test_each_flow_is_drawn_differently_and_both_ways() -> None:
    drawn = [arrow(flow, points_right=right) for flow in Flow for right in (True, False)]
    assert len(set(drawn)) == len(drawn)
    for picture in drawn:
        assert re.search('class="arrow', picture)
        assert ElementTree.fromstring(picture).attrib["aria-hidden"] == "true"
