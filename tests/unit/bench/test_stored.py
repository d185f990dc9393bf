"""Stored results are read back as they were, joined case by case, and refused by name when they are no results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.documents import Document, Run, join
from bench.errors import DocumentError
from bench.markdown import write_markdown
from bench.options import parse_options
from bench.results import CaseResult, Comparison, Limit, Sample, Series
from bench.saving import save_document
from bench.stored import read_document


def case(name: str, value: float = 4.0, title: str = "A title") -> CaseResult:
    ours = Series("ours", "Twinsite", "MiB", [Sample(value, 7, 0.5, {"latency_p50_us": 3.0}, 9), None])
    peer = Series("peer", "a peer", "MiB", [Sample(2.0), Sample(2.5)])
    comparisons = [Comparison("ours ÷ peer", ours, peer, 1.5, goal_is_most=True)]
    return CaseResult(name, title, [ours, peer], comparisons, [Limit("most", ours, 5.0)], ["round 2 failed"])


def run_of(name: str, *cases: CaseResult, kernel: str = "6.1", load: float = 0.1, seed: int = 7) -> Document:
    names = tuple(found.name for found in cases)
    options = {"cases": list(names), "rounds": 2, "seed": seed}
    machine = {"kernel": kernel, "load_at_start": [load]}
    return Document((Run(name, options, machine, {"dd": "dd 9.1"}, names),), cases)


def test_what_was_stored_is_read_back(tmp_path: Path) -> None:
    document = run_of("one", case("a"), case("b"))
    save_document(document, ["one"], tmp_path)
    assert read_document("one", tmp_path) == document
    assert read_document("one", tmp_path).to_json() == document.to_json()


def test_runs_are_joined_and_the_later_one_wins(tmp_path: Path) -> None:
    first = run_of("first", case("a", 1.0), case("b", 1.0), seed=1)
    second = run_of("second", case("b", 2.0), case("c", 2.0), seed=2, load=0.9)
    third = run_of("third", case("c", 3.0), seed=3)
    joined = join([join([first, second]), third])
    values = {found.name: found.series[0].good[0].value for found in joined.cases}
    assert values == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert [(run.name, run.cases) for run in joined.runs] == [("first", ("a",)), ("second", ("b",)), ("third", ("c",))]
    assert joined.differences == []  # The load of a machine is of a run.
    assert "seed" not in joined.options and joined.options["rounds"] == 2
    save_document(joined, ["joined"], tmp_path)
    assert read_document("joined", tmp_path) == joined
    markdown = write_markdown(joined, "joined", [])
    for text in ("### Run first", "### Run second", "| seed | 2 |", "| load at start | 0.9 |"):
        assert text in markdown
    assert "Not alike" not in markdown


def test_a_run_of_which_nothing_is_left_is_not_named() -> None:
    joined = join([run_of("old", case("a", 1.0)), run_of("new", case("a", 2.0))])
    assert [run.name for run in joined.runs] == ["new"]
    assert "runs" not in joined.to_json()


def test_runs_of_unlike_machines_are_told_apart() -> None:
    joined = join([run_of("first", case("a"), kernel="6.1"), run_of("second", case("b"), kernel="6.2")])
    assert joined.differences == ["The runs do not share one machine. kernel is first: 6.1; second: 6.2"]
    assert "kernel" not in joined.machine
    markdown = write_markdown(joined, "joined", [])
    assert "## Not alike" in markdown
    assert "kernel is first: 6.1; second: 6.2" in markdown


@pytest.mark.parametrize("name", ["../one", "a/b", "", ".one", "x" * 65])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="is not the name of a result"):
        read_document(name, tmp_path)


def test_a_missing_result_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    save_document(run_of("one", case("a")), ["one"], tmp_path)
    with pytest.raises(DocumentError, match=r"there is no .*two\.json; there are: one$"):
        read_document("two", tmp_path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DocumentError, match=r"folder\.json cannot be read: Is a directory"):
        read_document("folder", tmp_path)


def broken(change: Any) -> str:
    """Return the text of a document with one change."""
    document = run_of("one", case("a"), case("b")).to_json()
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("\udcff", "Invalid JSON"),
        ("[]", "should be an object"),
        (broken(lambda d: d.update(format=2)), "format: Input should be 1"),
        (broken(lambda d: d.update(cases=[])), "cases: List should have at least 1 item"),
        (broken(lambda d: d["cases"][0].update(name="../a")), "cases.0.name: String should match"),
        (broken(lambda d: d["cases"][1].update(name="a")), "a case stands in it twice"),
        (broken(lambda d: d["cases"][1].update(name="goals")), "is called goals"),
        (broken(lambda d: d["cases"][0]["series"][1].update(name="ours")), "case a has two series of one name"),
        (broken(lambda d: d["cases"][0]["series"][0].pop("unit")), "unit: Field required"),
        (broken(lambda d: d["cases"][0]["series"][0]["rounds"][0].update(value="many")), "value: Input should be"),
        (broken(lambda d: d["cases"][0]["series"][0]["rounds"][0].update(latency_p50_us=[])), "latency_p50_us: Input"),
        (broken(lambda d: d["cases"][0]["series"][0]["rounds"][0].update(value=float("inf"))), "finite number"),
        (broken(lambda d: d["cases"][0]["series"][0]["rounds"].pop()), "of unlike many rounds"),
        (broken(lambda d: d["cases"][0]["comparisons"][0].update(peer="nobody")), "case a has no series nobody"),
        (broken(lambda d: d["cases"][0]["limits"][0].update(series="nobody")), "case a has no series nobody"),
        (broken(lambda d: d.update(runs=[])), "its runs do not hold its cases"),
    ],
)
def test_a_malformed_result_is_named_in_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DocumentError) as refused:
        read_document("one", tmp_path)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/one.json is no document of the bench: ")
    assert complaint in message
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--report", "a", "--rounds", "5", "--seed", "1"), "leave out --rounds, --seed"),
        (("--report", "a,b"), "needs --save"),
        (("--report", "a,b", "--save", "b"), "would overwrite"),
        (("--save", "now-read"), "would be called as that of read-qd1"),
    ],
)
def test_options_that_do_not_fit_are_named(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments, ("qd1", "read-qd1"))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
