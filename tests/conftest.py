"""How all tests are run: with little ado, and side by side (`pytest -n 3 --dist loadfile --no-loadscope-reorder`)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.scheduler.protocol import Scheduling

LONG = (
    "tests/clients/test_schemathesis.py",
    "tests/browser/test_pages.py",
    "tests/cluster/test_bench.py",
    "tests/cluster/test_killed_moves.py",
    "tests/cluster/test_up.py",
    "tests/cluster/test_partitions.py",
    "tests/cluster/test_tutorial.py",
    "tests/cluster/test_dependent_writes.py",
    "tests/cluster/test_kills.py",
    "tests/cluster/test_restored.py",
    "tests/cluster/test_command_line.py",
    "tests/cluster/test_extend.py",
    "tests/cluster/test_main_job.py",
    "tests/cluster/test_moving.py",
)
"""Files that take longest, longest first: begun first, they leave no process alone with one of them at the end."""
APART = frozenset(
    {"tests/clients/test_schemathesis.py", "tests/cluster/test_bench.py", "tests/cluster/test_tutorial.py"}
)
"""Long files whose tests share nothing: each test may run in another process."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the collector of garbage rest while tests are collected, and never look at them again: they all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long files first where tests run side by side."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONG.index(file) if (file := file_of(item.nodeid)) in LONG else len(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Keep the tests of a file together, but for files whose tests share nothing."""
    return _FilesApart(config, log) if config.getvalue("dist") == "loadfile" else None


class _FilesApart(LoadFileScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return nodeid if file in APART else file


def file_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition("::")[0]
