"""The elements that the pages are made of. Texts of users are texts here, never markup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from twinsite.dashboard.words import SIGNS, Tone

Handler = Callable[[], Awaitable[None] | None]
Item_contra = TypeVar("Item_contra", contravariant=True)
RowItem = TypeVar("RowItem")


def box(tag: str = "div", classes: str = "", **attributes: str) -> Element:
    """Return an element that others are put into; an attribute's `_` stands for `-`."""
    return _dressed(ui.element(tag), classes, attributes)


def text(tag: str, content: str = "", classes: str = "", **attributes: str) -> TextElement:
    """Return an element with a text, which `.text = …` changes."""
    element = TextElement(tag=tag, text=content)
    _dressed(element, classes, attributes)
    return element


def link(content: str, target: str, classes: str = "", **attributes: str) -> TextElement:
    """Return a link to another of our pages."""
    return text("a", content, classes, href=f"/ui{target}", **attributes)


def button(content: str, handler: Handler, classes: str = "", **attributes: str) -> TextElement:
    """Return a button."""
    element = text("button", content, f"button {classes}", type="button", **attributes)
    element.on("click", lambda _event: handler())
    return element


def table(columns: Sequence[str]) -> Element:
    """Show a table with this head, which narrow windows show as cards; return what its rows go into."""
    with box("div", "scroll"), box("table", "stacking"):
        with box("thead"), box("tr"):
            for title in columns:
                text("th", title, scope="col")
        return box("tbody")


def set_disabled(element: Element, is_disabled: bool) -> None:
    """Let a button be pressed or not."""
    set_attribute(element, "disabled", "" if is_disabled else None)


def set_attribute(element: Element, name: str, value: str | None) -> None:
    """Give an attribute a value, or take it away; nothing is sent when it has it already."""
    if element.props.get(name) == value:
        return
    if value is None:
        element.props.pop(name, None)
    else:
        element.props[name] = value
    element.update()


def set_classes(element: Element, classes: str) -> None:
    """Give an element other classes; nothing is sent when it has them already."""
    if " ".join(element.classes) != classes:
        element.classes(replace=classes)


def _dressed(element: Element, classes: str, attributes: Mapping[str, str]) -> Element:
    if classes:
        element.classes(classes)
    for name, value in attributes.items():
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element


class Chip:
    """A state: a sign, words and a colour."""

    def __init__(self, tone: Tone = Tone.NOTICE, words: str = "") -> None:
        """Show a state."""
        self._box = box("span", f"chip {tone}")
        with self._box:
            self._sign = text("span", SIGNS[tone], "sign", aria_hidden="true")
            self._words = text("span", words)

    def update(self, tone: Tone, words: str) -> None:
        """Show another one."""
        set_classes(self._box, f"chip {tone}")
        self._sign.text = SIGNS[tone]
        self._words.text = words


class Markup:
    """SVG of our own, changed only when it differs. Never made of what users wrote, unless that is escaped."""

    def __init__(self, classes: str = "") -> None:
        """Begin with nothing."""
        self._html = ui.html("", sanitize=False)
        if classes:
            self._html.classes(classes)

    def update(self, markup: str) -> None:
        """Show it."""
        if self._html.content != markup:
            self._html.content = markup


class Facts:
    """A list of terms and what they are now."""

    def __init__(self, terms: Mapping[str, str]) -> None:
        """`terms` maps the key of each fact to what it is called."""
        self._values: dict[str, TextElement] = {}
        with box("dl", "facts"):
            for key, title in terms.items():
                with box("div"):
                    text("dt", title)
                    self._values[key] = text("dd")

    def update(self, **values: str) -> None:
        """Show these."""
        for key, value in values.items():
            self._values[key].text = value


class Row(Protocol[Item_contra]):
    """What shows one item of a list."""

    root: Element

    def update(self, item: Item_contra) -> None:
        """Show how the item is now."""


class Rows(Generic[RowItem]):
    """A list whose rows stay what they are while their items change, so that focus and reading position stay too."""

    def __init__(self, container: Element, make: Callable[[RowItem], Row[RowItem]], nothing: str = "") -> None:
        """Make rows with `make` in `container`; `nothing` is said while there are none."""
        self._container = container
        self._make = make
        self._rows: dict[Hashable, Row[RowItem]] = {}
        self._nothing = text("p", nothing, "nothing")
        self._nothing.visible = False

    def update(self, items: Mapping[Any, RowItem]) -> None:
        """Show these items, by their keys, in this order."""
        for key in [key for key in self._rows if key not in items]:
            self._rows.pop(key).root.delete()
        for key, item in items.items():
            row = self._rows.get(key)
            if row is None:
                with self._container:
                    row = self._rows[key] = self._make(item)
            row.update(item)
        wanted = [self._rows[key].root for key in items]
        if self._container.default_slot.children != wanted:
            for index, root in enumerate(wanted):
                if self._container.default_slot.children[index] is not root:
                    root.move(target_index=index)
        self._nothing.visible = not items and bool(self._nothing.text)
