"""The result as plots: one for each case, and one of all goals. matplotlib is loaded only when something is drawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.documents import Document
from bench.results import CaseResult, Series
from bench.words import NOT_MEASURED, number, one_line, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

GOALS = "goals"
"""The name of the plot that is no case's."""

OURS_COLOUR, OTHER_COLOUR, WARNING_COLOUR, LINE_COLOUR = "#1f6fb4", "#e8973a", "#b3261e", "#333333"
"""Blue and orange are told apart by those who do not see red or green."""
WIDTH_INCHES, ROW_INCHES, PANEL_INCHES, FRAME_INCHES = 9.0, 0.34, 0.75, 0.9
LABEL_LETTERS_MAX, TITLE_LETTERS_MAX = 46, 80
ROOM_FOR_NUMBERS = 1.16
"""How much longer than the longest bar an axis is: the numbers stand behind the bars."""
GOALS_MARGIN = 1.4
"""What lies between the outermost values, what is off the axis, and the axis' ends: a factor."""
DETAILED_RANGE_MAX = 500.0
"""A logarithmic axis that spans more than this has labels at the powers of ten alone."""

_STYLE: dict[RcKeyType, Any] = {
    "svg.hashsalt": "twinsite",  # The same result is the same file.
    "svg.fonttype": "none",  # Text stays text, which can be searched, and read out.
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


class _Goal(NamedTuple):
    """Where a comparison or a limit lies: 1 is its goal, and more is better. None where nothing was measured."""

    label: str
    text: str
    place: float | None
    lowest: float
    highest: float
    is_met: bool | None


def draw(document: Document) -> dict[str, str]:
    """Return the SVG text of each case with a series, by the case's name, and of `GOALS` if there are any.

    Raises `ImportError` without matplotlib.
    """
    plots = {case.name: draw_case(case) for case in document.cases if case.series}
    goals = [goal for case in document.cases for goal in _goals(case)]
    return {**plots, **({GOALS: _draw_goals(goals)} if goals else {})}


def draw_case(case: CaseResult) -> str:
    """Return bars of the medians, with lines from the lowest to the highest round; there is a panel for each unit."""
    units = list(dict.fromkeys(series.unit for series in case.series))
    panels = [[series for series in case.series if series.unit == unit] for unit in units]
    height = FRAME_INCHES + sum(PANEL_INCHES + ROW_INCHES * len(panel) for panel in panels)
    with _figure(case.title, height) as figure:
        all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=[len(panel) + 1 for panel in panels])
        ours = _ours(case)
        for axes, panel, unit in zip(all_axes[:, 0], panels, units, strict=True):
            _draw_bars(axes, panel, ours, unit)
        others = {series.name for series in case.series} - ours
        _add_legend(figure, "ours", "what it is compared with" if others else None)
        return _svg(figure, case.title)


def _ours(case: CaseResult) -> set[str]:
    """Return the names of the series that are ours; so is what was measured alone, with nothing to compare it to."""
    peers = {comparison.peer.name for comparison in case.comparisons}
    alone = {limit.series.name for limit in case.limits} - peers
    return alone | {comparison.ours.name for comparison in case.comparisons}


def _draw_bars(axes: Axes, panel: Sequence[Series], ours: set[str], unit: str) -> None:
    places = range(len(panel))
    axes.set_yticks(places, [_wrapped(series.label) for series in panel])
    axes.set_ylim(len(panel) - 0.4, -0.6)  # The first on top.
    axes.set_xlabel(one_line(unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    for place, series in zip(places, panel, strict=True):
        spread = series.spread
        if spread is None:
            _write(axes, 0.0, place, NOT_MEASURED, WARNING_COLOUR)
            continue
        axes.barh(place, spread.median, height=0.7, color=OURS_COLOUR if series.name in ours else OTHER_COLOUR)
        _draw_spread(axes, place, spread.median, spread.minimum, spread.maximum)
        _write(axes, spread.maximum, place, number(spread.median), LINE_COLOUR)
    longest = max((series.spread.maximum for series in panel if series.spread is not None), default=0.0)
    axes.set_xlim(0.0, longest * ROOM_FOR_NUMBERS or 1.0)


def _goals(case: CaseResult) -> Iterator[_Goal]:
    """Yield a line for everything in a case that has a goal. A limit is judged by its worst round."""
    for row in rows(case):
        if row.aim is None:
            continue
        label, spread = f"{case.name}: {row.title}", row.judged
        if spread is None:
            yield _Goal(label, f"{NOT_MEASURED}, goal {row.goal}", None, 1.0, 1.0, None)
            continue
        judged = spread.maximum if row.peer is None else spread.median
        place, *ends = (
            _relative(value, row.aim, row.aim_is_most) for value in (judged, spread.minimum, spread.maximum)
        )
        yield _Goal(label, f"{number(judged)}, goal {row.goal}", place, min(ends), max(ends), row.is_met)


def _relative(value: float, aim: float, is_most: bool) -> float:
    """Return how many times better than its goal a value is: infinity for nothing of what should be little."""
    better, worse = (aim, value) if is_most else (value, aim)
    if worse == 0:
        return 1.0 if better == 0 else float("inf")
    return better / worse


def _draw_goals(goals: Sequence[_Goal]) -> str:
    """Return a point for each goal, right of 1 when it is met; 0 and infinity lie at the ends of the axis."""
    title = "How far from the goals: each value relative to its goal"
    measured = [value for goal in goals if goal.place is not None for value in (goal.place, goal.lowest, goal.highest)]
    finite = [1.0, *(value for value in measured if 0 < value < float("inf"))]
    left, right = min(finite) / GOALS_MARGIN, max(finite) * GOALS_MARGIN
    with _figure(title, FRAME_INCHES + PANEL_INCHES + ROW_INCHES * len(goals)) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_xlim(left / GOALS_MARGIN, right * GOALS_MARGIN)
        axes.set_xlabel("times as good as the goal asks, on a logarithmic axis")
        _label_ticks(axes, right / left > DETAILED_RANGE_MAX)
        axes.axvline(1.0, color=LINE_COLOUR, linewidth=1.2)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        values = axes.twinx()
        for side, texts in ((axes, [goal.label for goal in goals]), (values, [goal.text for goal in goals])):
            side.set_yticks(range(len(goals)), [_wrapped(text) for text in texts])
            side.set_ylim(len(goals) - 0.4, -0.6)
            side.tick_params(axis="y", length=0)
        for row, goal in enumerate(goals):
            if goal.place is not None:
                place, lowest, highest = (
                    min(max(value, left), right) for value in (goal.place, goal.lowest, goal.highest)
                )
                _draw_spread(axes, row, place, lowest, highest)
                colour = OURS_COLOUR if goal.is_met else OTHER_COLOUR
                axes.plot(place, row, marker="o", markersize=7, color=colour, clip_on=False, zorder=3)
        _add_legend(figure, "met", "missed")
        return _svg(figure, title)


def _label_ticks(axes: Axes, only_decades: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415  Only who draws needs it.

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if only_decades else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_spread(axes: Axes, place: float, middle: float, lowest: float, highest: float) -> None:
    sides = [[max(0.0, middle - lowest)], [max(0.0, highest - middle)]]
    axes.errorbar([middle], [place], xerr=sides, fmt="none", ecolor=LINE_COLOUR, elinewidth=1.2, capsize=3)


def _wrapped(text: str, letters_max: int = LABEL_LETTERS_MAX) -> str:
    """Return a text in at most two lines, which end in an ellipsis when it is longer."""
    return "\n".join(textwrap.wrap(one_line(text), letters_max, max_lines=2, placeholder=" …"))


def _write(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", color=colour)


def _add_legend(figure: Figure, ours: str, other: str | None) -> None:
    """Say under the figure what both colours stand for, or the one that it has, and what the lines are."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [
        Patch(color=OURS_COLOUR, label=ours),
        *([] if other is None else [Patch(color=OTHER_COLOUR, label=other)]),
        Line2D([], [], color=LINE_COLOUR, marker="|", label="lowest to highest round"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


@contextmanager
def _figure(title: str, height_inches: float) -> Iterator[Figure]:
    """Give a figure with a title whose style holds until it was written."""
    import matplotlib  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        figure.suptitle(_wrapped(title, TITLE_LETTERS_MAX), fontweight="bold")
        yield figure


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Title": one_line(title)})
    return file.getvalue()
