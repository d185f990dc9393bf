"""Which tests may run side by side in processes of their own (`pytest -n 2 --dist loadgroup`)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Keep tests together that share what their file has started once; any other test may go wherever there is time."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares_with_its_file(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_with_its_file(item: pytest.Function) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs
    return any(definition.scope == "module" for named in definitions.values() for definition in named)
