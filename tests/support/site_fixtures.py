"""Fixtures that give each test a controller of its own; a conftest imports them.

The first start of a controller runs migrations and hashes a password, so it happens once and its directory is copied.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.controller import Site, make_settings, open_site


@dataclass(frozen=True)
class Prepared:
    """A data directory after its first start, and a login in it."""

    directory: Path
    token: str


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Start a controller once, and log in."""
    directory = tmp_path_factory.mktemp("prepared")

    async def start() -> str:
        async with open_site(make_settings(directory)) as site:
            return str(site.http.headers["X-Auth-Token"])

    return Prepared(directory, asyncio.run(start()))


@pytest.fixture
async def site(prepared: Prepared, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a controller whose nodes have reported, and a client that is logged in."""
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory), prepared.token) as opened:
        yield opened
