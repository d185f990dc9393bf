"""Run the bench: `python -m bench --help`.

Exit status: 0 when everything asked for was measured, whatever the numbers; 1 when something could not be; 2 for wrong
arguments; 130 after an interrupt.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from rich.console import Console

from bench.cases import CASES, FAMILIES
from bench.errors import BenchError
from bench.machine import machine_facts, peer_versions
from bench.options import Options, parse_options
from bench.processes import LeftoverSweep
from bench.report import show, write_json
from bench.results import CaseResult
from bench.running import Context
from bench.workspace import Workspace

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPORT_COLUMNS_MIN = 140
"""A table that is narrower cuts its numbers."""


def main() -> int:
    """Measure, show, write; return the exit status."""
    options = parse_options(sys.argv[1:], tuple(CASES), FAMILIES)
    for number in ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    progress = Console(stderr=True)
    try:
        facts, peers = machine_facts(options.directory), peer_versions()
        results = _measure(options, progress)
    except KeyboardInterrupt:
        progress.print("Interrupted: nothing was written.")
        return 130
    except BenchError as error:
        progress.print(f"bench: {error}", style="bold red", markup=False)
        return 1
    console = Console()
    if not console.is_terminal or console.width < REPORT_COLUMNS_MIN:
        console = Console(width=REPORT_COLUMNS_MIN)
    show(results, facts, peers, console)
    for path in write_json(results, facts, peers, options):
        console.print(f"Written: {path}", soft_wrap=True, highlight=False)
    return 1 if any(result.problems for result in results) else 0


def _measure(options: Options, progress: Console) -> list[CaseResult]:
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
        return [CASES[name](context) for name in options.cases]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the run; from now on nothing cuts the cleaning up short, which is bounded."""
    for ending in ENDING_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
