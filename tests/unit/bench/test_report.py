"""The report of a small result made by hand: all of it is there in each form, and nothing of it is taken for markup."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from bench.cases import CASES
from bench.documents import Document, Run
from bench.markdown import escape, write_markdown
from bench.plots import GOALS, draw
from bench.report import show
from bench.results import LATENCY_P50, LATENCY_P99, MEMORY_PEAK, CaseResult, Comparison, Limit, Sample, Series
from bench.saving import save_document, save_report
from twinsite.core.limits import GIB, MIB

NASTY = "<b>&amp; | `a` *b* _c_ $d$ [e](f) \\ \n# g"
"""A title in which everything is markup somewhere."""
NASTY_LINE = "<b>&amp; | `a` *b* _c_ $d$ [e](f) \\ # g"
COLUMNS = 120


def sample(value: float, p99: float) -> Sample:
    details = {LATENCY_P50: 17.5, LATENCY_P99: p99, MEMORY_PEAK: 33.25}
    return Sample(value, GIB, 4.0, details, operations=200_000)


def writes() -> CaseResult:
    """One side measured twice, one once, one never; a goal met, one missed, one unknown."""
    ours = Series("ours", "Twinsite", "writes/s", [sample(1200.0, 81.0), sample(2400.0, 97.0)])
    peer = Series("peer", "the <other> one", "writes/s", [Sample(1000.0), None])
    absent = Series("absent", "absent peer", "writes/s", [None, None])
    return CaseResult(
        "writes",
        NASTY,
        [ours, peer, absent],
        [
            Comparison("ours ÷ peer", ours, peer, 0.8),
            Comparison("ours ÷ peer, dear", ours, peer, 40.0),
            Comparison("ours ÷ absent", ours, absent, 2.0),
            Comparison("peer ÷ ours", peer, ours),
        ],
        problems=["absent peer, round 1: it said\n| nothing |"],
    )


def moves() -> CaseResult:
    gap = Series("gap", "longest gap", "ms", [Sample(120.0), Sample(250.0)])
    nothing = Series("shipped", "shipped", "MiB", [Sample(0.0), Sample(0.0)])
    compared = Series("compared", "compared", "MiB", [Sample(64.0), Sample(64.0)])
    return CaseResult(
        "moves",
        "A move",
        [gap, nothing, compared],
        [Comparison("shipped ÷ compared", nothing, compared, 0.01, goal_is_most=True)],
        [Limit("gap of a host", gap, 200.0), Limit("no limit", gap, None)],
    )


def run_of(*cases: CaseResult, name: str = "small", kernel: str = "6.1") -> Document:
    options = {"cases": [case.name for case in cases], "size_bytes": 64 * MIB, "seconds": 0.5, "rounds": 2, "seed": 7}
    machine = {"cores": 2, "kernel": kernel, "load_at_start": [0.1, 0.2, 0.3]}
    run = Run(name, options, machine, {"nbdkit": "nbdkit 1.32", "dd": None}, tuple(case.name for case in cases))
    return Document((run,), cases)


def texts(svg: str) -> str:
    """Return all that can be read in a plot, a space between its parts."""
    root = ElementTree.fromstring(svg)
    return " ".join(text for text in root.itertext() if text.strip())


def cells(markdown: str, first: str) -> list[list[str]]:
    """Return the rows of every table whose first cell is `first`."""
    lines = (line for line in markdown.splitlines() if line.startswith("| "))
    split = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return [row for row in split if row[0] == first]


def test_the_terminal_shows_comparisons_costs_and_problems() -> None:
    file = io.StringIO()
    show(run_of(writes(), moves()), Console(file=file, width=COLUMNS))
    shown = file.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    words = " ".join(re.sub(r"[│┃]", " ", shown).split())
    assert "ours ÷ peer 1,800 writes/s 1,000 writes/s 1.20 ≥ 0.8 1,200-2,400 1,000-1,000 1.20-1.20 met" in words
    assert "ours ÷ absent 1,800 writes/s not measured - ≥ 2 1,200-2,400 unknown" in words
    assert "gap of a host 185 ms - - ≤ 200 ms 120-250 missed" in words
    assert "Twinsite 17.5 89 33.2 2 4" in words
    assert "absent peer 17.5" not in words
    assert "absent peer, round 1: it said" in words
    assert "size 64 MiB, seconds 0.5, rounds 2, seed 7" in words
    assert "dd: NOT INSTALLED" in words


def test_the_markdown_holds_all_of_it() -> None:
    document = run_of(writes(), moves())
    markdown = write_markdown(document, "small", ["writes", "moves", GOALS], ["plots are crooked"])
    assert markdown.startswith("# Bench: small\n\nGoals: 5, of which 2 met, 2 missed, 1 unknown.\n")
    ours = "1,800 writes/s (1,200-2,400)"
    assert cells(markdown, "ours ÷ peer") == [
        ["ours ÷ peer", "ours", "peer", "ratio", "goal", "result"],
        ["ours ÷ peer", ours, "1,000 writes/s (1,000-1,000)", "1.20 (1.20-1.20)", "≥ 0.8", "met"],
        ["ours ÷ peer", "ours", "peer", "ratio", "goal", "result"],
    ]
    assert cells(markdown, "ours ÷ absent") == [["ours ÷ absent", ours, "not measured", "-", "≥ 2", "unknown"]]
    assert cells(markdown, "gap of a host") == [["gap of a host", "185 ms (120-250)", "-", "-", "≤ 200 ms", "missed"]]
    assert cells(markdown, "no limit") == [["no limit", "185 ms (120-250)", "-", "-", "", ""]]
    assert cells(markdown, escape(NASTY)) == [
        [escape(NASTY), "Twinsite", "17.5 (17.5-17.5)", "89 (81-97)", "33.2 (33.2-33.2)", "2", "4"]
    ]
    assert cells(markdown, "size") == [["size", "64 MiB"]]
    assert cells(markdown, "seed") == [["seed", "7"]]
    assert cells(markdown, "load at start") == [["load at start", "0.1, 0.2, 0.3"]]
    assert cells(markdown, "kernel") == [["kernel", "6.1"]]
    assert cells(markdown, "dd") == [["dd", "NOT INSTALLED"]]
    assert "absent peer, round 1: it said \\| nothing \\|\n- plots are crooked\n" in markdown
    assert re.findall(r"]\(([^)]*\.svg)\)", markdown) == ["small-goals.svg", "small-writes.svg", "small-moves.svg"]


def test_nothing_in_a_title_is_markup() -> None:
    assert escape(NASTY) == r"\<b\>\&amp; \| \`a\` \*b\* \_c\_ \$d\$ \[e\](f) \\ \# g"
    document = run_of(writes())
    assert f"### {escape(NASTY)}\n" in write_markdown(document, "small", [])
    plots = draw(document)
    assert NASTY_LINE in texts(plots["writes"])
    assert "the <other> one" in texts(plots["writes"])


def test_a_plot_shows_each_side_and_its_unit() -> None:
    shown = texts(draw(run_of(writes(), moves()))["writes"])
    for text in ("Twinsite", "absent peer", "not measured", "1,800", "1,000", "writes/s", "ours"):
        assert text in shown
    shown = texts(draw(run_of(moves()))["moves"])
    for text in ("longest gap", "ms", "MiB", "185", "64"):
        assert text in shown


def test_the_overview_shows_each_goal() -> None:
    shown = texts(draw(run_of(writes(), moves()))[GOALS])
    for text in (
        "writes: ours ÷ peer",
        "1.2, goal ≥ 0.8",
        "1.2, goal ≥ 40",
        "not measured, goal ≥ 2",
        "0, goal ≤ 0.01",
        "250, goal ≤ 200 ms",
    ):
        assert text in shown
    assert "peer ÷ ours" not in shown
    assert GOALS not in draw(run_of(CaseResult("none", "No goal", [Series("a", "a", "s", [Sample(1.0)])])))
    assert GOALS not in CASES


def test_the_same_result_is_drawn_alike_on_white() -> None:
    document = run_of(writes(), moves())
    first = draw(document)
    assert first == draw(document)
    for svg in first.values():
        assert "dc:date" not in svg
        assert "fill: #ffffff" in svg


def test_everything_is_written_under_each_name_and_old_plots_go(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for cases in ((writes(), moves()), (writes(),)):
        document = run_of(*cases)
        written = save_document(document, ["latest", "small"], results)
        reports, undrawn = save_report(document, ["latest", "small"], results, ["writes", "moves"])
        assert [path.name for path in [*written, *reports]] == ["latest.json", "small.json", "latest.md", "small.md"]
        assert undrawn == []
    assert sorted(path.name for path in results.iterdir()) == [
        f"{name}{rest}" for name in ("latest", "small") for rest in ("-goals.svg", "-writes.svg", ".json", ".md")
    ]
    for name in ("latest", "small"):
        markdown = (results / f"{name}.md").read_text()
        for plot in re.findall(r"]\(([^)]*\.svg)\)", markdown):
            assert (results / plot).is_file()


def test_without_matplotlib_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    reports, undrawn = save_report(run_of(writes()), ["small"], tmp_path, ["writes"])
    assert len(undrawn) == 1 and "make bench" in undrawn[0]
    assert [path.name for path in tmp_path.iterdir()] == ["small.md"]
    markdown = reports[0].read_text()
    assert "plots were not drawn" in markdown
    assert "svg" not in markdown
