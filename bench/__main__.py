"""Run the bench: `python -m bench --help`.

Exit status: 0 when everything asked for was measured and drawn, whatever the numbers; 1 when something could not be; 2
for wrong arguments, and for stored results that cannot be read; 130 after an interrupt.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from rich.console import Console

from bench.cases import CASES, FAMILIES
from bench.documents import Document, join, measured
from bench.errors import BenchError, DocumentError
from bench.machine import machine_facts, peer_versions
from bench.options import Options, parse_options
from bench.processes import LeftoverSweep
from bench.report import show
from bench.running import Context
from bench.saving import LATEST, RESULTS, save_document, save_report
from bench.stored import read_document
from bench.workspace import Workspace

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPORT_COLUMNS_MIN = 120
"""A table that is narrower cuts its numbers."""


def main() -> int:
    """Measure, or read what was measured; show, write; return the exit status."""
    options = parse_options(sys.argv[1:], tuple(CASES), FAMILIES)
    for number in ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    progress = Console(stderr=True, soft_wrap=True)
    try:
        document = _read(options) if options.report else _measure(options, progress)
    except KeyboardInterrupt:
        progress.print("Interrupted: nothing was written.")
        return 130
    except BenchError as error:
        progress.print(f"bench: {error}", style="bold red", markup=False)
        return 2 if isinstance(error, DocumentError) else 1
    try:
        return _write(document, options)
    except KeyboardInterrupt:
        progress.print("Interrupted before the report was whole; if the results are stored, --report NAME writes it.")
        return 130
    except OSError as error:
        progress.print(f"bench: the results could not be written: {error}", style="bold red", markup=False)
        return 1


def _read(options: Options) -> Document:
    """Return the stored results that were asked for, joined when they are several. Raises `DocumentError`."""
    documents = [read_document(name, RESULTS) for name in options.report]
    return documents[0] if len(documents) == 1 else join(documents)


def _measure(options: Options, progress: Console) -> Document:
    facts, peers = machine_facts(options.directory), peer_versions()
    with (
        LeftoverSweep(),
        Workspace(options.directory, options.size_bytes) as workspace,
        progress.status("starting") as status,
    ):

        def say(text: str) -> None:
            status.update(text)
            if not progress.is_terminal:
                progress.print(text, highlight=False, markup=False)

        context = Context(options, workspace, say)
        results = [CASES[name](context) for name in options.cases]
    return measured(results, facts, peers, options, options.save or LATEST)


def _write(document: Document, options: Options) -> int:
    """Store what is new, show it and write its report; return the exit status."""
    name = options.save or (options.report or (LATEST,))[0]
    names = [name] if options.report else list(dict.fromkeys((LATEST, name)))
    written = save_document(document, names, RESULTS) if options.save is not None or not options.report else []
    console = Console()
    if not console.is_terminal or console.width < REPORT_COLUMNS_MIN:
        console = Console(width=REPORT_COLUMNS_MIN)
    show(document, console)
    reports, undrawn = save_report(document, names, RESULTS, CASES.keys())
    for path in [*written, *reports]:
        console.print(f"Written: {path}", soft_wrap=True, highlight=False)
    for problem in undrawn:
        console.print(problem, style="bold red", markup=False)
    return 1 if undrawn or (document.problems and not options.report) else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the run; from now on nothing cuts the cleaning up short, which is bounded."""
    for ending in ENDING_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
