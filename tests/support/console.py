"""The commands of a document's console blocks, and what it shows of what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Step:
    """A command and the lines that are shown of what it prints."""

    command: str
    shown: list[str] = field(default_factory=list)


def steps(text: str, but_not: tuple[str, ...] = ()) -> list[Step]:
    """Return the commands of a page's console blocks, in order, without those that begin with `but_not`."""
    found: list[Step] = []
    for indent, block in re.findall(r"^( *)```console\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            shown = line.removeprefix(indent)
            if shown.startswith("$ "):
                found.append(Step(shown[2:]))
            elif found[-1].command.endswith("\\"):
                found[-1].command += f"\n{shown}"
            else:
                found[-1].shown.append(shown)
    return [step for step in found if not step.command.startswith(but_not)]
