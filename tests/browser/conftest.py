"""One browser and one installation for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import chromium, installation_with_page
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """A running `up`."""
    with installation_with_page() as made:
        yield made
