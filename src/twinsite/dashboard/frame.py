"""What all pages share: the head, the place for messages, and being live."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
from fastapi import Request
from nicegui import ui

from twinsite.client import ApiRefused, AsyncClient, Unauthorized
from twinsite.dashboard.access import Door
from twinsite.dashboard.parts import box, button, link, set_attribute, set_classes, text
from twinsite.dashboard.session import PageSession
from twinsite.dashboard.wording import page_words
from twinsite.dashboard.words import Tone
from twinsite.errors import TwinsiteError

REFRESH_SECONDS = 2.0
"""How often an open page reads anew."""

NAVIGATION = (("/", "Overview"), ("/protect", "Protect disks"), ("/volumes", "Volumes"), ("/pairs", "Pairs"))
THEME_COOKIE = "twinsite_theme"
THEMES = {"auto": None, "light": False, "dark": True}

_log = structlog.get_logger(__name__)


class Frame:
    """One open page of one user. `with frame.content():` puts things into it."""

    def __init__(self, request: Request, title: str, here: str) -> None:
        """Begin a page; `here` is the entry of the navigation that it belongs to."""
        session: PageSession = request.state.page_session
        door: Door = request.state.page_door
        self.session = session
        self.client: AsyncClient = door.client(session, request.client.host if request.client is not None else "")
        self._page = ui.context.client
        self._page.on_delete(self.client.close)
        self._theme = request.cookies.get(THEME_COOKIE, "auto")
        self._theme = self._theme if self._theme in THEMES else "auto"
        ui.add_head_html('<link rel="stylesheet" href="/ui/static/page.css">')
        ui.add_head_html('<link rel="icon" href="/ui/static/icon.svg" type="image/svg+xml">')
        ui.page_title(f"{title} · Twinsite")
        self._dark = ui.dark_mode(THEMES[self._theme])
        self._head(here)
        # NiceGUI has the <main> around it.
        with box("div", "page", id="content", tabindex="-1") as self._main:
            self._messages = box("div", "messages", role="status", aria_live="polite")

    @contextmanager
    def content(self) -> Iterator[None]:
        """Put what is made in this context into the page."""
        with self._main:
            yield

    @property
    def now(self) -> datetime.datetime:
        """Return the controller's time."""
        return datetime.datetime.now(datetime.UTC)

    def _head(self, here: str) -> None:
        with ui.header(fixed=False).classes(replace="head"):
            text("a", "Skip to the content", "skip", href="#content")
            with box("a", "brand", href="/ui/"):
                box("img", src="/ui/static/icon.svg", alt="", width="24", height="24")
                text("span", "Twinsite")
            with box("nav", "navigation", aria_label="Pages"):
                for target, title in NAVIGATION:
                    entry = link(title, target)
                    if target == here:
                        set_attribute(entry, "aria-current", "page")
            with box("div", "who"):
                self._live = text("span", "Connecting", "live waiting")
                self._theme_button = button(self._theme_words(), self._next_theme, "quiet small")
                link(f"{self.session.user_name} in {self.session.project_name}", "/project", "identity")
                with box("form", method="post", action="/ui/logout"):
                    text("button", "Log out", "button quiet small", type="submit")

    def _theme_words(self) -> str:
        return {"auto": "Colours: automatic", "light": "Colours: light", "dark": "Colours: dark"}[self._theme]

    def _next_theme(self) -> None:
        names = list(THEMES)
        self._theme = names[(names.index(self._theme) + 1) % len(names)]
        self._dark.value = THEMES[self._theme]
        self._theme_button.text = self._theme_words()
        age = 365 * 24 * 3600
        ui.run_javascript(f"document.cookie = '{THEME_COOKIE}={self._theme}; path=/ui; max-age={age}; SameSite=Lax'")

    def say(self, words: str, tone: Tone = Tone.OK) -> None:
        """Show a message until it is closed or the next one comes."""
        self._messages.clear()
        with self._messages, box("div", f"message {tone}"):
            text("p", words)
            button("Close", self._close_message, "quiet small")

    def _close_message(self) -> None:
        self._messages.clear()

    async def keep_live(self, refresh: Callable[[], Awaitable[None]], seconds: float = REFRESH_SECONDS) -> None:
        """Call `refresh` now, so that the page comes with its content, and then as long as the page is open."""

        async def once() -> None:
            with self._main:
                await self.attempt(refresh)

        await once()
        ui.timer(seconds, once, immediate=False)

    async def attempt(self, read: Callable[[], Awaitable[None]]) -> None:
        """Read something, and show whether that went well."""
        try:
            await read()
        except Unauthorized:
            ui.navigate.to("/login")
        except TwinsiteError as error:
            self._show_live("Not live", "live broken")
            self.say(sentence(error), Tone.CRITICAL)
        except Exception:
            if not self._page.is_deleted:
                self._show_live("Not live", "live broken")
                _log.exception("the page could not be shown")
        else:
            self._show_live(f"Live {self.now:%H:%M:%S} UTC", "live")

    def _show_live(self, words: str, classes: str) -> None:
        self._live.text = words
        set_classes(self._live, classes)

    async def act(self, call: Callable[[], Awaitable[object]]) -> str | None:
        """Do something that changes the installation; return why it did not work, None when it did."""
        try:
            await call()
        except Unauthorized:
            ui.navigate.to("/login")
            return "Your log-in has ended."
        except TwinsiteError as error:
            return sentence(error)
        return None


def sentence(error: TwinsiteError) -> str:
    """Return what the API said, with the id by which its log has it."""
    if isinstance(error, ApiRefused):
        said = page_words(error.message)
        return f"{said} ({error.request_id})" if error.request_id else said
    return str(error)
