"""The fixture of an installation that runs, for the conftest.py of who wants it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.installation import Installation


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """One running installation for the tests of a file; each makes its own volumes and groups."""
    made = Installation()
    try:
        made.start()
        yield made
    finally:
        made.close()
