"""What the API says to everybody, as the page says it: its buttons instead of commands and requests. Pure.

The API's sentences name a command of `twinsite` or an action of the API where there is something to do. Here these are
exchanged for what is on the page; a test walks over all that the API can say.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from types import MappingProxyType

MOVE_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "sync": "Synchronize",
        "stop": "Pause",
        "reverse": "Switch over",
        "failover": "Fail over",
        "reprotect": "Reprotect",
    }
)
"""What the button of each action on a group is called."""

_GROUP_COMMAND = re.compile(rf"twinsite group (?:plan )?({'|'.join(MOVE_TITLES)})(?: --\w+)* ")
_REQUEST = re.compile(r" \(os-[a-z_-]+\)")
_CONNECT = re.compile(r"'twinsite volume connect .+' prints the address")
_PHRASES: Mapping[str, str] = MappingProxyType(
    {
        " (twinsite group status)": "",
        'with {"force": true} goes': "whose loss is accepted goes",
        ' with {"force": true}': "",
        "in what 'twinsite kept list' shows on the machine": "in a log, which the group's page names, on the machine",
        "; twinsite.failover of the group states what that loses": "; its plan states what that loses",
    }
)
_SITE_LIST = "twinsite site list"


def page_words(said: str, group_id: str = "", name: str | None = None) -> str:
    """Return a sentence of the API, of the group with this id and name if it is of one, as the page says it."""
    for called in (shlex.quote(name) if name else "", group_id):
        if called:
            said = _with_buttons(said, called)
    said = _REQUEST.sub("", said)
    for words, ours in _PHRASES.items():
        said = said.replace(words, ours)
    return _CONNECT.sub("the page of the disk shows the address", said)


def _with_buttons(said: str, called: str) -> str:
    """Exchange the commands on the group that a shell calls so. The name is no pattern: users chose it."""
    command = re.compile(rf"('?){_GROUP_COMMAND.pattern}{re.escape(called)}\1")
    return command.sub(lambda found: f"“{MOVE_TITLES[found[2]]}”", said)


def action_of(command: str | None) -> str | None:
    """Return the action on a group that an advised command does or plans, None when it does something else."""
    found = _GROUP_COMMAND.match(command or "")
    return found[1] if found else None


def is_about_sites(command: str | None) -> bool:
    """Say whether an advised command shows the sites."""
    return command == _SITE_LIST
