"""A controller with two fake nodes for each test that asks for a `site`."""

from __future__ import annotations

from tests.support.site_fixtures import prepared, site

__all__ = ["prepared", "site"]
