"""Loads NiceGUI and the pages, once for a process."""

from __future__ import annotations

import contextlib
import os
import tempfile

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

RECONNECT_SECONDS = 30.0
"""How long the state of an open page is kept for a browser whose connection broke."""


class Page:
    """NiceGUI's application, started with the first request: it needs the event loop that it will run in."""

    def __init__(self, app: FastAPI) -> None:
        """Wrap the application that NiceGUI is mounted in."""
        self._app = app
        self._running: contextlib.AbstractAsyncContextManager[object] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if self._running is None:
            self._running = self._app.router.lifespan_context(self._app)
            await self._running.__aenter__()
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End it."""
        running, self._running = self._running, None
        if running is not None:
            await running.__aexit__(None, None, None)


def load_page() -> Page:
    """Return the page, with all its pages registered. NiceGUI is one for a process, so this is called once."""
    # NiceGUI would look for its files in the working directory. Nothing is ever stored there.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", os.path.join(tempfile.gettempdir(), "twinsite-page-has-no-storage"))
    from nicegui import app as nicegui_app  # noqa: PLC0415 - after the variable above, which it reads.
    from nicegui import ui  # noqa: PLC0415

    from twinsite.dashboard import pages  # noqa: PLC0415

    # It flashes at the top with each request of the live connection, and says nothing to who cannot see it.
    nicegui_app.config.quasar_config["loadingBar"] = {"skipHijack": True}
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    pages.register()
    ui.run_with(
        app,
        mount_path="/ui",
        title="Twinsite",
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_SECONDS,
        binding_refresh_interval=None,
    )
    return Page(app)
