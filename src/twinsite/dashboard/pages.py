"""Which page is where, below /ui."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from twinsite.dashboard.group import group_page
from twinsite.dashboard.overview import overview_page
from twinsite.dashboard.pairs import pairs_page
from twinsite.dashboard.protect import protect_page
from twinsite.dashboard.sites import sites_page
from twinsite.dashboard.volume import volume_page
from twinsite.dashboard.volumes import volumes_page
from twinsite.dashboard.webhooks import webhooks_page

BUILD_SECONDS_MAX = 20.0
"""How long the controller may take to tell what a page shows first."""

PAGES: dict[str, Callable[..., Awaitable[None]]] = {
    "/": overview_page,
    "/groups/{group_id}": group_page,
    "/protect": protect_page,
    "/volumes": volumes_page,
    "/volumes/{volume_id}": volume_page,
    "/pairs": pairs_page,
    "/sites": sites_page,
    "/webhooks": webhooks_page,
}


def register() -> None:
    """Tell NiceGUI of all pages."""
    for path, build in PAGES.items():
        ui.page(path, response_timeout=BUILD_SECONDS_MAX)(build)
