"""A document of results: the cases of one run, or of several that were joined, and what each run depended on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.options import Options
from bench.results import FORMAT, CaseResult

LOAD = "load_at_start"
"""The one fact of a machine that no two runs share."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the numbers of the cases named in `cases` depend on. `name` is what the run was saved as."""

    name: str
    options: Mapping[str, Any]
    machine: Mapping[str, Any]
    peers: Mapping[str, str | None]
    cases: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, in a document of several runs."""
        return {
            "name": self.name,
            "options": dict(self.options),
            "machine": dict(self.machine),
            "peers": dict(self.peers),
            "cases": list(self.cases),
        }


@dataclass(frozen=True, slots=True)
class Document:
    """At least one run, and the cases of all; each case belongs to one run."""

    runs: tuple[Run, ...]
    cases: tuple[CaseResult, ...]

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that all runs share."""
        return _shared([run.options for run in self.runs])

    @property
    def machine(self) -> dict[str, Any]:
        """Return the facts of the machine that all runs share."""
        return _shared([run.machine for run in self.runs])

    @property
    def peers(self) -> dict[str, str | None]:
        """Return the versions of the peers that all runs share."""
        return _shared([run.peers for run in self.runs])

    @property
    def differences(self) -> list[str]:
        """Return a sentence for each fact of the machine and each peer that is not the same in all runs."""
        sentences = []
        for kind, facts in (
            ("machine", [run.machine for run in self.runs]),
            ("peers", [run.peers for run in self.runs]),
        ):
            shared = _shared(facts)
            for key in dict.fromkeys(key for of_run in facts for key in of_run):
                if key not in shared and key != LOAD:
                    values = "; ".join(
                        f"{run.name}: {of_run.get(key) or 'none'}" for run, of_run in zip(self.runs, facts, strict=True)
                    )
                    sentences.append(f"The runs do not share one {kind}. {key} is {values}")
        return sentences

    @property
    def problems(self) -> list[str]:
        """Return a sentence for everything that could not be measured, with the title of its case."""
        return [f"{case.title}: {problem}" for case in self.cases for problem in case.problems]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form. Of several runs, the head holds what they share, and `runs` holds all of each."""
        return {
            "format": FORMAT,
            "options": self.options,
            "machine": self.machine,
            "peers": self.peers,
            **({"runs": [run.to_json() for run in self.runs]} if len(self.runs) > 1 else {}),
            "cases": [case.to_json() for case in self.cases],
        }


def measured(
    cases: Sequence[CaseResult],
    machine: Mapping[str, Any],
    peers: Mapping[str, str | None],
    options: Options,
    name: str,
) -> Document:
    """Return the document of a run that has just ended."""
    stored_options = {
        "cases": list(options.cases),
        "size_bytes": options.size_bytes,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "seed": options.seed,
    }
    return Document((Run(name, stored_options, machine, peers, tuple(case.name for case in cases)),), tuple(cases))


def join(documents: Sequence[Document]) -> Document:
    """Return one document of all cases, in the order in which they first stand.

    A case of several documents is taken from the last of them. A run of which no case is left is left out.
    """
    runs = [run for document in documents for run in document.runs]
    cases = {case.name: case for document in documents for case in document.cases}
    last = {name: number for number, run in enumerate(runs) for name in run.cases}
    kept = (
        replace(run, cases=tuple(name for name in run.cases if last[name] == number)) for number, run in enumerate(runs)
    )
    return Document(tuple(run for run in kept if run.cases), tuple(cases.values()))


def _shared(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        key: value
        for key, value in facts[0].items()
        if all(key in others and others[key] == value for others in facts[1:])
    }
