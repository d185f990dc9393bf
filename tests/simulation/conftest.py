"""Tells which worlds a run of the tests has looked at."""

from __future__ import annotations

import pytest

FIRST_FRESH_SEED = "first fresh seed"
"""Name of the property of a test's report that the summary shows."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the first seeds of the worlds that no other state of the code has seen."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, seed in getattr(report, "user_properties", []):
                if name == FIRST_FRESH_SEED and report.when == "call":
                    terminalreporter.write_line(f"simulated worlds of fresh seeds from {seed} on: make sim SEED={seed}")
