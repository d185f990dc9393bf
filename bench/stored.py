"""Reads a stored document of results back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bench.documents import Document, Run
from bench.errors import DocumentError
from bench.options import is_save_name
from bench.plots import GOALS
from bench.results import CaseResult, Comparison, Limit, Sample, Series

CaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
"""It becomes part of the names of files."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Round(_Part):
    """Whatever else stands in a round is one of its details."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    value: float
    bytes_moved: int = 0
    cpu_seconds: float = 0.0
    operations: int = 0

    def sample(self) -> Sample:
        return Sample(self.value, self.bytes_moved, self.cpu_seconds, self.__pydantic_extra__, self.operations)


class _Series(_Part):
    name: str
    label: str
    unit: str
    rounds: list[_Round | None]

    def series(self) -> Series:
        samples = [None if found is None else found.sample() for found in self.rounds]
        return Series(self.name, self.label, self.unit, samples)


class _Comparison(_Part):
    title: str
    ours: str
    peer: str
    goal: float | None
    goal_is: Literal["at least", "at most"]


class _Limit(_Part):
    title: str
    series: str
    most: float | None


class _Case(_Part):
    name: CaseName
    title: str
    series: list[_Series]
    comparisons: list[_Comparison]
    limits: list[_Limit] = Field(default_factory=list)
    problems: list[str]

    def result(self) -> CaseResult:
        """Return the case; raises `ValueError` when its comparisons do not fit its series."""
        of = {stored.name: stored.series() for stored in self.series}
        if len(of) < len(self.series):
            raise ValueError(f"case {self.name} has two series of one name")
        named = {name for stored in self.comparisons for name in (stored.ours, stored.peer)}
        unknown = sorted((named | {limit.series for limit in self.limits}) - of.keys())
        if unknown:
            raise ValueError(f"case {self.name} has no series {', '.join(unknown)}")
        for stored in self.comparisons:
            if len(of[stored.ours].samples) != len(of[stored.peer].samples):
                raise ValueError(f"case {self.name} compares {stored.ours} and {stored.peer} of unlike many rounds")
        comparisons = [
            Comparison(stored.title, of[stored.ours], of[stored.peer], stored.goal, stored.goal_is == "at most")
            for stored in self.comparisons
        ]
        limits = [Limit(limit.title, of[limit.series], limit.most) for limit in self.limits]
        return CaseResult(self.name, self.title, list(of.values()), comparisons, limits, list(self.problems))


class _Run(_Part):
    name: str
    options: dict[str, Any]
    machine: dict[str, Any]
    peers: dict[str, str | None]
    cases: list[str]

    def run(self) -> Run:
        return Run(self.name, self.options, self.machine, self.peers, tuple(self.cases))


class _Document(_Part):
    format: Literal[1]
    options: dict[str, Any]
    machine: dict[str, Any]
    peers: dict[str, str | None]
    runs: list[_Run] | None = None
    cases: Annotated[list[_Case], Field(min_length=1)]

    def document(self, name: str) -> Document:
        """Return the document; raises `ValueError` when its runs do not hold its cases, each once."""
        names = tuple(case.name for case in self.cases)
        if len(set(names)) < len(names) or GOALS in names:
            raise ValueError(f"a case stands in it twice, or is called {GOALS}")
        runs = [Run(name, self.options, self.machine, self.peers, names)]
        if self.runs is not None:
            runs = [run.run() for run in self.runs]
        if Counter(case for run in runs for case in run.cases) != Counter(names):
            raise ValueError("its runs do not hold its cases, each once")
        return Document(tuple(runs), tuple(case.result() for case in self.cases))


def read_document(name: str, directory: Path) -> Document:
    """Return what was saved as `name` in `directory`. Raises `DocumentError`."""
    if not is_save_name(name):
        raise DocumentError(f"{name!r} is not the name of a result: letters, digits, '-', '_' and '.'")
    path = directory / f"{name}.json"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        there = ", ".join(sorted(other.stem for other in directory.glob("*.json")))
        raise DocumentError(f"there is no {path}; there are: {there or 'none'}") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _Document.model_validate_json(text).document(name)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise DocumentError(f"{path} is no document of the bench: {what}") from error
    except ValueError as error:
        raise DocumentError(f"{path} is no document of the bench: {error}") from error
