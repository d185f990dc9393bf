"""Tell the story: to the terminal, and to a record that becomes a picture."""

from __future__ import annotations

import io
import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

PICTURE_WIDTH_COLUMNS = 104
INDENT_COLUMNS = 2


class Narrator:
    """Prints each thing twice, so that live bars and spinners stay out of the record."""

    def __init__(self) -> None:
        """Print to standard output; the record has a width of its own."""
        self.live = Console(highlight=False)
        self._record = Console(
            record=True, file=io.StringIO(), width=PICTURE_WIDTH_COLUMNS, force_terminal=True, highlight=False
        )
        self._started_at = time.monotonic()
        self._chapter = 0

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started_at

    def show(self, content: RenderableType) -> None:
        """Print something that rich can render, indented."""
        for console in (self.live, self._record):
            console.print(Padding(content, (0, 0, 0, INDENT_COLUMNS), expand=False))

    def title(self, text: str) -> None:
        """Print the title of the whole."""
        for console in (self.live, self._record):
            console.print(f"[bold]{escape(text)}[/bold]")

    def chapter(self, text: str) -> None:
        """Begin a numbered part of the story."""
        self._chapter += 1
        for console in (self.live, self._record):
            console.print(f"\n[bold cyan]{self._chapter}. {escape(text)}[/bold cyan]")

    def say(self, text: str) -> None:
        """Print a sentence."""
        self.show(f"[default]{escape(text)}[/default]")

    def fact(self, text: str) -> None:
        """Print something that has been done or checked."""
        line = Table.grid(padding=(0, 1))
        line.add_row("[green]✔[/green]", escape(text))
        self.show(line)

    def code(self, text: str) -> None:
        """Print what a user would type or see on the wire."""
        self._record.print(Padding(f"[yellow]{escape(text)}[/yellow]", (0, 0, 0, INDENT_COLUMNS), expand=False))
        # Left unbroken where it is longer than the line, so that it can be copied.
        self.live.print(" " * INDENT_COLUMNS + f"[yellow]{escape(text)}[/yellow]", soft_wrap=True)

    def fail(self, text: str) -> None:
        """Print why the story ends here."""
        self.show(f"[bold red]✘ {escape(text)}[/bold red]")

    def save_picture(self, path: Path, title: str) -> None:
        """Write the record as an SVG. Raises `OSError`."""
        self._record.save_svg(str(path), title=title)
