"""The bench runs on a tiny size, writes what it found, says what it could not measure, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.cases import CASES, FAMILIES
from bench.documents import Document, Run
from bench.markdown import escape
from bench.options import parse_options
from bench.results import CaseResult, Limit, Sample, Series
from bench.saving import RESULTS, save_document

PROJECT = Path(__file__).parents[2]
SECONDS_MAX = 300.0
TINY = ("--size", "4M", "--seconds", "0.2", "--rounds", "1", "--seed", "7")


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def name() -> Iterator[str]:
    """A name of its own to save under: other runs write `latest.json`."""
    name = f"test-{os.getpid()}"
    yield name
    for path in files_of(name):
        path.unlink()


def files_of(name: str) -> list[Path]:
    """Return everything that was written under a name."""
    return [*RESULTS.glob(f"{name}.*"), *RESULTS.glob(f"{name}-*")]


def command(directory: Path, name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", "--directory", str(directory), "--save", name, *TINY, *arguments]


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


LOADS = [case for case in CASES if case in {*FAMILIES["writes"], *FAMILIES["reads"]}]
COPIES = [case for case in CASES if case in {*FAMILIES["copies"], *FAMILIES["intents"], "recovery"}]
INSTALLATIONS = ["interruption", "holds", "moves", "many-moves", "control"]
"""The cases by what they run: apart, since each such run has a time limit."""


def test_every_load_is_measured(directory: Path, name: str) -> None:
    document = measure(LOADS, directory, name)
    assert goals(document) == {None, 40.0, 2.0, 1.0, 0.8, 0.7, 0.6}
    assert limits(document) == {(None, "MiB/s")}


def test_every_copy_and_every_log_is_measured(directory: Path, name: str) -> None:
    document = measure(COPIES, directory, name)
    assert goals(document) == {None, 10.0, 0.7, 0.9, 1.03, 1.0, 0.01}
    assert limits(document) == {(None, "s")}
    check_recovery(document)
    check_copies(document)


def test_every_installation_is_measured(directory: Path, name: str) -> None:
    document = measure(INSTALLATIONS, directory, name)
    assert goals(document) == {None}
    assert limits(document) == {
        *((None, unit) for unit in ("s", "ms", "calls/s")),
        *((most, "ms") for most in (200.0, 1000.0, 10.0, 150.0, 50.0)),
        (2.0, "s"),
    }
    check_many(document)


def test_every_other_case_is_measured(directory: Path, name: str) -> None:
    measured = {*LOADS, *COPIES, *INSTALLATIONS}
    document = measure([case for case in CASES if case not in measured], directory, name)
    assert goals(document) == {None, 0.85, 0.9, 1.0}
    assert limits(document) == {(None, "MiB"), (25.0, "MiB"), (None, "ms")}


def goals(document: dict[str, Any]) -> set[float | None]:
    return {comparison["goal"] for case in document["cases"] for comparison in case["comparisons"]}


def limits(document: dict[str, Any]) -> set[tuple[float | None, str]]:
    return {(limit["most"], limit["unit"]) for case in document["cases"] for limit in case["limits"]}


def measure(cases: list[str], directory: Path, name: str) -> dict[str, Any]:
    """Run the cases; return the document, of which each case is whole."""
    done = subprocess.run(
        command(directory, name, "--cases", ",".join(cases)),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = read(name)
    assert document["format"] == 1
    assert document["options"]["seed"] == 7
    assert all(document["peers"].values())
    assert [case["name"] for case in document["cases"]] == cases
    for case in document["cases"]:
        assert case["problems"] == []
        assert case["comparisons"] or case["limits"]
        for series in case["series"]:
            assert len(series["rounds"]) == 1
            # After a crash in which nothing differs, nothing is shipped.
            assert series["min"] > 0 or series["name"] == "shipped"
            assert series["min"] <= series["median"] <= series["max"]
        names = {series["name"] for series in case["series"]}
        for comparison in case["comparisons"]:
            assert {comparison["ours"], comparison["peer"]} <= names
            assert comparison["ratio"]["median"] > 0 or comparison["ours"] == "shipped"
            assert (comparison["is_met"] is None) == (comparison["goal"] is None)
        for limit in case["limits"]:
            assert limit["series"] in names
            assert (limit["is_met"] is None) == (limit["most"] is None)
    check_report(document, name)
    assert list(directory.iterdir()) == []
    return document


def check_report(document: dict[str, Any], name: str) -> None:
    """A report and plots were written of every case, and they show what the document has."""
    report = (RESULTS / f"{name}.md").read_text()
    plots = [f"{name}-{plot}.svg" for plot in ("goals", *(case["name"] for case in document["cases"]))]
    assert re.findall(r"]\((.*?\.svg)\)", report) == plots
    assert {*plots, f"{name}.md", f"{name}.json"} == {path.name for path in files_of(name)}
    assert "Everything was measured." in report
    for case in document["cases"]:
        assert f"### {escape(case['title'])}\n" in report
        shown = " ".join(ElementTree.parse(RESULTS / f"{name}-{case['name']}.svg").getroot().itertext())
        for series in case["series"]:
            assert series["unit"] in shown
            assert all(word in shown for word in series["label"].split())


def check_recovery(document: dict[str, Any]) -> None:
    """The workers without a log wrote none, the real one did, and after its crash what it had named was compared."""
    cases = {case["name"]: {series["name"]: series for series in case["series"]} for case in document["cases"]}
    newly_logged = {name: s["rounds"][0]["newly_logged_extents"] for name, s in cases["intents-cold"].items()}
    assert newly_logged["logged"] > 0
    assert newly_logged["unrecorded"] == newly_logged["unscanned"] == 0
    recovery = cases["recovery"]
    assert recovery["compared"]["median"] == recovery["logged"]["median"] > 0
    assert recovery["shipped"]["median"] == 0


def check_many(document: dict[str, Any]) -> None:
    """A hold lasted, each group has moved, and what was asked of the controller came to the workers."""
    cases = {case["name"]: {series["name"]: series for series in case["series"]} for case in document["cases"]}
    for kind in ("arbiter", "stream"):
        (round_,) = cases["holds"][kind]["rounds"]
        assert round_["hold_seconds"] > 0.2
        assert round_["writes_before"] > 0
    (all_moved,) = cases["many-moves"]["failover-all"]["rounds"]
    assert all_moved["groups"] == 2
    assert all_moved["p50_seconds"] <= all_moved["p99_seconds"] <= all_moved["value"]
    for name in ("heard-few", "heard"):
        (heard,) = cases["control"][name]["rounds"]
        assert heard["value"] < heard["from_call_ms"]


def check_copies(document: dict[str, Any]) -> None:
    """Every copier was measured on every content, and what the kernel counted is what was dirtied and little more."""
    cases = {case["name"]: {series["name"]: series for series in case["series"]} for case in document["cases"]}
    copiers = {"twinsite", "nbdcopy-flush", "nbdcopy-best", "qemu-img", "rsync", "dd"}
    for name in ("full-sync", "allocated"):
        assert cases[name].keys() == copiers
    for name in ("zeros", "sparse"):
        assert cases[name].keys() == copiers | {"twinsite-random"}
    for name in ("delta", "delta-10"):
        of = {series: found["median"] for series, found in cases[name].items()}
        # A busy machine lets TCP send a segment again whose receiver is late, which is a tenth of so little.
        (round_,) = cases[name]["twinsite"]["rounds"]
        carried_once = of["twinsite"] - round_["sent_again_mib"]
        assert of["writes"] < of["blocks"] <= carried_once < 1.1 * of["blocks"]
        assert 0 < of["rsync"] < of["blocks"]
        assert of["nbdcopy-flush"] > 4  # MiB: the whole volume.
    assert cases["comparing"].keys() == {"twinsite", "xxhsum"}


def test_a_missing_peer_is_reported_and_the_rest_is_measured(directory: Path, name: str) -> None:
    programs = directory / "programs"
    programs.mkdir()
    for program in ("nbdkit", "nbdcopy"):
        found = shutil.which(program)
        assert found is not None
        (programs / program).symlink_to(found)
    work = directory / "work"
    work.mkdir()
    done = subprocess.run(
        command(work, name, "--cases", "qd1,sparse"),
        cwd=PROJECT,
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fio is not installed: apt-get install fio" in " ".join(done.stdout.split())
    assert "fio is not installed: apt-get install fio" in (RESULTS / f"{name}.md").read_text()
    writes, sparse = read(name)["cases"]
    assert writes["series"] == []
    assert any("qemu-storage-daemon is not installed" in problem for problem in writes["problems"])
    assert [problem.split(" is not ")[0] for problem in sparse["problems"]] == [
        f"{label} was not measured: {tool}"
        for label, tool in (
            ("qemu-img convert -n", "qemu-img"),
            ("rsync --inplace --whole-file", "rsync"),
            ("dd through socat", "dd"),
            ("dd through socat", "socat"),
        )
    ]
    assert [series["name"] for series in sparse["series"]] == [
        *("twinsite", "nbdcopy-flush", "nbdcopy-best", "twinsite-random")
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(directory: Path, name: str, number: signal.Signals) -> None:
    bench = subprocess.Popen(
        command(directory, name, "--cases", "qd32", "--seconds", "600"),
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bench.stderr is not None
        for line in bench.stderr:
            if "round 1" in line:
                break
        started = processes_in(directory)
        assert len(started) >= 8, started  # A solo worker, nbdkit, two of a pair, and two of each of QEMU's mirrors.
        bench.send_signal(number)
        rest = bench.stderr.read()
        assert bench.wait(SECONDS_MAX) == 130, rest
        assert "Interrupted" in rest
    finally:
        bench.kill()
        bench.wait(SECONDS_MAX)
        if bench.stderr is not None:
            bench.stderr.close()
    deadline = time.monotonic() + SECONDS_MAX
    while processes_in(directory) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes_in(directory) == []
    assert list(directory.iterdir()) == []
    assert files_of(name) == []


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--report", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def test_stored_results_are_drawn_anew_and_joined(name: str) -> None:
    series = Series("ours", "Twinsite", "ms", [Sample(2.0)])
    for part in ("a", "b"):
        case = CaseResult(f"case-{part}", f"Case {part}", [series], limits=[Limit("a limit", series, 3.0)])
        run = Run(f"{name}-{part}", {"rounds": 1}, {"kernel": part}, {}, (case.name,))
        save_document(Document((run,), (case,)), [run.name], RESULTS)
    done = report(f"{name}-a")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in files_of(f"{name}-a")} == {
        f"{name}-a{rest}" for rest in (".json", ".md", "-case-a.svg", "-goals.svg")
    }
    done = report(f"{name}-a,{name}-b", "--save", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [case["name"] for case in read(name)["cases"]] == ["case-a", "case-b"]
    written = (RESULTS / f"{name}.md").read_text()
    assert f"kernel is {name}-a: a; {name}-b: b" in written
    for plot in re.findall(r"]\((.*?\.svg)\)", written):
        assert (RESULTS / plot).exists()


@pytest.mark.parametrize(
    ("named", "complaint"), [("../latest", "is not the name of a result"), ("nobody", "there is no ")]
)
def test_a_report_of_nothing_is_refused_in_one_line(named: str, complaint: str) -> None:
    done = report(named)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("bench: ") and complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--cases", "qd1,qd2"), "no case qd2"),
        (("--size", "many"), "'many' is not a size"),
        (("--size", "1K"), "must be from 4M"),
        (("--rounds", "0"), "'0' is not a number from 1"),
        (("--seconds", "nan"), "'nan' is not a number of seconds"),
        (("--save", "../x"), "must be made of letters"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: tuple[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments, tuple(CASES))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_size_that_does_not_fit_is_refused(directory: Path, name: str) -> None:
    done = subprocess.run(
        command(directory, name, "--size", "1024G"),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 1
    assert "--directory" in done.stderr
    assert list(directory.iterdir()) == []


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of processes, other than a bench itself, that name something in `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{directory}/" in line and "-m bench" not in line:
                found.append(line)
    return found
