"""Dialogs that say what would happen before it is done, and ask for a name where that is destructive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import box, button, set_disabled, text


class Dialog:
    """A dialog with a title, a body, and two buttons: do it, or leave it."""

    def __init__(self, frame: Frame, title: str, verb: str, *, is_dangerous: bool = False) -> None:
        """Make it; fill it with `with dialog.body:`, then `open`."""
        self._frame = frame
        self._verb = verb
        self._call: Callable[[], Awaitable[object]] | None = None
        self._done: Callable[[], Awaitable[None] | None] | None = None
        self._said = ""
        self._wanted_name: str | None = None
        self._is_name_needed = False
        self._typed_name = ""
        self._is_allowed = True
        self._is_working = False
        self._dialog = ui.dialog().props(f'aria-label="{verb}" transition-duration="0"')
        with self._dialog, box("div", "card dialog"):
            text("h2", title)
            self.body = box("div", "body")
            self._name_box = box("div", "field")
            self._trouble = text("p", "", "alert", role="alert")
            self._trouble.visible = False
            with box("div", "buttons"):
                self._do = button(verb, self._act, "danger" if is_dangerous else "primary")
                self._leave = button("Cancel", self.close, "quiet")
        self._dialog.on("hide", self._forget)

    def ask_for_name(self, name: str) -> None:
        """Let nobody go on who has not typed this name."""
        self._wanted_name = name
        self._is_name_needed = True
        with self._name_box:
            with box("label", for_="confirm-name"):
                text("span", "To go on, type ")
                text("strong", name)
            field = box("input", id="confirm-name", autocomplete="off", spellcheck="false", autocapitalize="none")
            field.on("input", lambda event: self._type(str(event.args)), js_handler="(e) => emit(e.target.value)")
            field.on("keydown.enter", lambda _event: self._act())

    def need_name(self, is_needed: bool) -> None:
        """Let the name of `ask_for_name` be needed from now on or not."""
        self._is_name_needed = self._name_box.visible = is_needed
        self._settle()

    def _type(self, name: str) -> None:
        self._typed_name = name.strip()
        self._settle()

    def allow(self, is_allowed: bool) -> None:
        """Let it be done or not, whatever name is typed."""
        self._is_allowed = is_allowed
        self._settle()

    def _settle(self) -> None:
        set_disabled(self._do, not (self._is_allowed and self._is_named()) or self._is_working)

    def _is_named(self) -> bool:
        return not self._is_name_needed or self._typed_name == self._wanted_name

    def open(
        self,
        call: Callable[[], Awaitable[object]],
        said: str,
        done: Callable[[], Awaitable[None] | None] | None = None,
    ) -> None:
        """Show it. `call` does it, `said` is told afterwards, and then `done` is called."""
        self._call, self._said, self._done = call, said, done
        self._settle()
        self._dialog.open()

    def inform(self) -> None:
        """Show it with nothing to do but to leave it."""
        self._do.visible = False
        self._leave.text = "Close"
        self._dialog.open()

    @property
    def is_open(self) -> bool:
        """Say whether it is shown."""
        return bool(self._dialog.value)

    def close(self) -> None:
        """Leave it."""
        self._dialog.close()

    def _forget(self) -> None:
        self._dialog.delete()

    async def _act(self) -> None:
        if self._call is None or self._is_working or not self._is_allowed or not self._is_named():
            return
        self._is_working = True
        self._do.text = f"{self._verb} …"
        self._trouble.visible = False
        self._settle()
        trouble = await self._frame.act(self._call)
        self._is_working = False
        self._do.text = self._verb
        self._settle()
        if trouble is not None:
            self._trouble.text = trouble
            self._trouble.visible = True
            return
        self._frame.say(self._said)
        self.close()
        if self._done is not None:
            outcome = self._done()
            if outcome is not None:
                await outcome


def listed(title: str, items: Sequence[str], tag: str = "ul", classes: str = "") -> None:
    """Put a titled list into a dialog, if there is something in it."""
    if not items:
        return
    text("h3", title)
    with box(tag, classes):
        for item in items:
            text("li", item)


class Field:
    """A labelled input whose value follows what is typed."""

    def __init__(
        self, name: str, label: str, value: str = "", hint: str = "", *, tag: str = "input", **attributes: str
    ) -> None:
        """Make it; `name` is unique in the page. The tag `textarea` takes several lines."""
        self.value = value
        with box("div", "field"):
            text("label", label, for_=name)
            # `value` would be set again with each change around it, over what has been typed since.
            self.input = box(tag, id=name, defaultValue=value, **attributes)
            self.input.on("input", lambda event: self._type(str(event.args)), js_handler="(e) => emit(e.target.value)")
            if hint:
                text("p", hint, "hint", id=f"{name}-hint")
                self.input.props["aria-describedby"] = f"{name}-hint"
        self.changed: Callable[[], None] | None = None

    @property
    def whole(self) -> int:
        """Return the number that was typed; 0, which the API refuses with a sentence, when it is none."""
        return int(self.value) if self.value.isdecimal() else 0

    def _type(self, value: str) -> None:
        self.value = value
        if self.changed is not None:
            self.changed()


class Choice:
    """A labelled choice among a few."""

    def __init__(
        self, name: str, label: str, options: dict[str, str], value: str | None = None, hint: str = ""
    ) -> None:
        """`options` maps each value to what it is called; the first one is chosen unless `value` is."""
        self.value = value if value in options else next(iter(options), "")
        self.changed: Callable[[], None] | None = None
        with box("div", "field"):
            text("label", label, for_=name)
            self._select = box("select", id=name)
            if hint:
                text("p", hint, "hint")
        self._select.on("change", lambda event: self._choose(str(event.args)), js_handler="(e) => emit(e.target.value)")
        self._options: dict[str, str] = {}
        self.offer(options)

    def offer(self, options: dict[str, str]) -> None:
        """Offer other options; the choice stays if it can."""
        if options == self._options:
            return
        self._options = dict(options)
        self._select.clear()
        if self.value not in options:
            self.value = next(iter(options), "")
        with self._select:
            for value, title in options.items():
                option: TextElement = text("option", title, value=value)
                if value == self.value:
                    option.props["selected"] = ""

    def _choose(self, value: str) -> None:
        self.value = value
        if self.changed is not None:
            self.changed()
