"""A real browser for tests: Debian's Chromium, without a screen, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Page, expect, sync_playwright

from tests.support.installation import QUICK_NOTICE, WAIT_SECONDS_MAX, Installation

CHROMIUM = "/usr/bin/chromium"
WAIT_MS_MAX = WAIT_SECONDS_MAX * 1000
WIDE = (1280, 800)
NARROW = (390, 844)
IMAGES_VARIABLE = "TWINSITE_IMAGES"
"""Names the folder that pictures are put into; without it none are made."""
IMAGE_BYTES_MAX = 150_000
WHOLE_PIXELS = 1000
"""How much of a long page a picture of the whole shows."""

expect.set_options(timeout=WAIT_MS_MAX)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser."""
    # As root Chromium has no sandbox, and containers give it little shared memory.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def installation_with_page() -> Iterator[Installation]:
    """Run `up`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK_NOTICE.items():
            patch.setenv(name, value)
        made = Installation()
        try:
            made.start()
            made.wait_connected()
            yield made
        finally:
            made.close()


class User:
    """Somebody with a browser window. What goes wrong in the page's scripts fails the test at `close`."""

    def __init__(
        self,
        browser: Browser,
        installation: Installation,
        size: tuple[int, int] = WIDE,
        scheme: Literal["light", "dark"] = "light",
    ) -> None:
        self.installation = installation
        viewport = {"width": size[0], "height": size[1]}
        self._context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        self._context.set_default_timeout(WAIT_MS_MAX)
        self.page: Page = self._context.new_page()
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.troubles.append(message.text)

    def go(self, path: str) -> None:
        """Open a page below /ui."""
        self.page.goto(f"{self.installation.url}/ui{path}")

    def log_in(self, user: str = "admin", password: str | None = None) -> None:
        """Fill in the form and send it."""
        secret = password or (self.installation.directory / "secrets/admin-password").read_text().strip()
        self.page.get_by_label("User", exact=True).fill(user)
        self.page.get_by_label("Password").fill(secret)
        self.page.get_by_role("button", name="Log in").click()
        self.wait_live()

    def wait_live(self) -> None:
        """Wait until the page has read something, and its live connection is there."""
        expect(self.page.locator(".live")).to_have_text(re.compile("Live"))
        self.page.wait_for_function("window.socket?.connected === true")

    def sees(self, words: str | re.Pattern[str], where: str = "#content") -> None:
        """Wait until these words are on the page."""
        expect(self.page.locator(where)).to_contain_text(words)

    def press(self, name: str, where: str = "#content") -> None:
        """Press a button by its name."""
        self.page.locator(where).get_by_role("button", name=name, exact=True).click()

    def picture(self, name: str, *, whole: bool = False) -> None:
        """Put a picture of the page into the folder of pictures, if there is one."""
        folder = os.environ.get(IMAGES_VARIABLE)
        if folder is None:
            return
        path = Path(folder) / f"{name}.png"
        size = self.page.viewport_size or {"width": WIDE[0], "height": WIDE[1]}
        clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": WHOLE_PIXELS if whole else size["height"]}
        self.page.screenshot(path=path, full_page=whole, clip=clip if whole else None, animations="disabled")
        assert path.stat().st_size <= IMAGE_BYTES_MAX, f"{path} is too big"

    def is_too_wide(self) -> bool:
        """Say whether one must scroll sideways."""
        script = "document.scrollingElement.scrollWidth > window.innerWidth"
        return bool(self.page.evaluate(script))

    def close(self) -> None:
        """Close the window. Fails when scripts had trouble in it."""
        self._context.close()
        assert self.troubles == []
