"""Every relative link of every page of the repository leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
BLOCK = re.compile(r"^(`{3,}).*?^\1`*\s*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith((".", "latest.")) or part == "node_modules" for part in page.relative_to(ROOT).parts)
]


def links(text: str) -> list[str]:
    """Return where a page's links and pictures lead to, within the repository."""
    found = LINK.findall(BLOCK.sub("", text))
    return [unquote(link) for link in found if not FOREIGN.match(link)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    made: dict[str, int] = {}
    for heading in HEADING.findall(BLOCK.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = made[anchor] = made.get(anchor, -1) + 1
        if count:
            made[f"{anchor}-{count}"] = 0
    return set(made)


def test_there_are_pages() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "docs/operating.md", "CHANGELOG.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads to nothing"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: there is no such heading"


def test_links_and_anchors_are_found() -> None:
    page = "# A `b` (c)!\n[d](e/f.md#g) ![h](i%20j.png) [k](https://l)\n## A b c\n```sh\n# no\n[m](n)\n```\n"
    assert links(page) == ["e/f.md#g", "i j.png"]
    assert anchors(page) == {"a-b-c", "a-b-c-1"}
