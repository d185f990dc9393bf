"""What several kinds of cluster tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.link import Link
from tests.support.running_installation import installation

__all__ = ["installation"]


@pytest.fixture(name="link")
def fixture_link() -> Iterator[Link]:
    """A link between two sites that leads nowhere yet."""
    link = Link("127.0.0.1:1")
    yield link
    link.close()
