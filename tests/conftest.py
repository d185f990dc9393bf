"""How all tests are run: what may run side by side (`pytest -n 2 --dist loadgroup`), and with how little ado."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import pytest


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


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Keep tests together that share what their file has started once; any other test may go wherever there is time."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares_with_its_file(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_with_its_file(item: pytest.Function) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs
    return any(definition.scope == "module" for named in definitions.values() for definition in named)
