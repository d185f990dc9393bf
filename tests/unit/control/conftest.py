"""A controller with two fake nodes for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.controller import Site, make_settings, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give a controller whose nodes have reported, and a client that is logged in."""
    async with open_site(make_settings(tmp_path)) as opened:
        yield opened
