"""What stands at the end of each command's --help: an example, and the exit statuses that it may have.

Pure tables, applied to the tree of commands when it is put together; the manual pages show them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import typer
from typer.models import CommandInfo

from twinsite.cli.errors import EXIT_FAILED, EXIT_NOT_IN_TIME, EXIT_NOT_WELL, EXIT_UNREACHABLE, EXIT_USAGE

EXIT_STATUSES: Mapping[int, str] = MappingProxyType(
    {
        0: "done, or nothing to do",
        EXIT_FAILED: "refused or failed, with a message that says why",
        EXIT_USAGE: "wrong usage or configuration, or nobody there to ask",
        EXIT_UNREACHABLE: "the API cannot be reached",
        EXIT_NOT_IN_TIME: "not done in the time given to --wait",
        EXIT_NOT_WELL: "a group needs a hand, says status --check",
    }
)

LOGIN = (
    "Who one is, and where: --data DIR or TWINSITE_DATA of a 'twinsite up'; or --os-cloud NAME or OS_CLOUD of a "
    "clouds.yaml; or OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME, as for OpenStack clients."
)

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "demo": "twinsite demo",
        "status": "twinsite status --check -o json",
        "up": "twinsite up --data ~/twinsite-data",
        "node": (
            "twinsite node --data /var/lib/twinsite --site az1 --controller https://ctl:8776 "
            "--token-file /etc/twinsite/node-token"
        ),
        "controller": "twinsite controller --data /var/lib/twinsite --host 10.0.2.10",
        "doctor": "twinsite doctor --data /var/lib/twinsite --controller https://ctl:8776",
        "token": 'eval "$(twinsite token)"',
        "top": "twinsite top --sort writes",
        "events": "twinsite events --follow -o json",
        "audit": "twinsite audit --result refused -n 100",
        "volume create": "twinsite volume create db --size 20 --az az1 --wait",
        "volume list": "twinsite volume list -o json",
        "volume show": "twinsite volume show db",
        "volume delete": "twinsite volume delete db db-dr --wait",
        "volume connect": "twinsite volume connect db --how qemu",
        "volume disconnect": "twinsite volume disconnect db --host web-1",
        "volume extend": "twinsite volume extend db --size 40 --wait",
        "volume update": "twinsite volume update db --name orders",
        "volume tag": "twinsite volume tag db owner=finance --remove draft",
        "volume metadata": "twinsite volume metadata db backup=daily --remove draft",
        "pair create": "twinsite pair create db --production db --dr db-dr --wait",
        "pair list": "twinsite pair list -o yaml",
        "pair show": "twinsite pair show db",
        "pair delete": "twinsite pair delete db --wait",
        "group create": "twinsite group create shop --pair db --pair wal --wait",
        "group list": "twinsite group list",
        "group show": "twinsite group show shop -o json",
        "group status": "twinsite group status shop",
        "group sync": "twinsite group sync shop --wait",
        "group stop": "twinsite group stop shop",
        "group update": "twinsite group update shop --add-pair logs --wait",
        "group delete": "twinsite group delete shop --wait",
        "group extend": "twinsite group extend shop db=40 wal=20 --wait",
        "group history": "twinsite group history shop --seconds 3600",
        "group failover": "twinsite group failover shop --wait",
        "group reverse": "twinsite group reverse shop --to az1 --wait",
        "group reprotect": "twinsite group reprotect shop --wait",
        "group plan": "twinsite group plan failover shop",
        "group events": "twinsite group events shop -n 100",
        "quota show": "twinsite quota show",
        "quota set": "twinsite quota set --project shop --volumes 20 --gigabytes 500",
        "quota reset": "twinsite quota reset --project shop",
        "kept list": "twinsite kept list /var/lib/twinsite/az1",
        "kept put-back": "twinsite kept put-back LOG 58f5cdd3-0004-47e2-a33b-23866aaa39db /root/copy.raw",
        "kept discard": "twinsite kept discard LOG",
        "site list": "twinsite site list",
        "site forget": "twinsite site forget az1",
        "site restore": "twinsite site restore az1",
        "rehearse lose": "twinsite rehearse lose az1 --data ~/twinsite-data",
        "rehearse return": "twinsite rehearse return az1 --data ~/twinsite-data",
        "webhook create": "twinsite webhook create https://hooks.example.com/x --name pager --kind hold_began",
        "webhook list": "twinsite webhook list",
        "webhook show": "twinsite webhook show pager",
        "webhook test": "twinsite webhook test pager",
        "webhook deliveries": "twinsite webhook deliveries pager --state given_up",
        "webhook delete": "twinsite webhook delete pager",
    }
)
"""An example of each command, by its words."""

_OFFLINE = frozenset({"demo", "up", "node", "controller", "doctor", "kept list", "kept put-back", "kept discard"})
"""What does not talk to the API as a user: it never ends because that cannot be reached."""
_WAITS = frozenset(words for words, example in EXAMPLES.items() if "--wait" in example)


def statuses_of(words: str) -> Mapping[int, str]:
    """Return the exit statuses that a command may have."""
    never = set[int]()
    if words in _OFFLINE or words.startswith("rehearse "):
        never.add(EXIT_UNREACHABLE)
    if words not in _WAITS:
        never.add(EXIT_NOT_IN_TIME)
    if words != "status":
        never.add(EXIT_NOT_WELL)
    return {status: text for status, text in EXIT_STATUSES.items() if status not in never}


def epilog_of(words: str) -> str:
    """Return the end of a command's help."""
    statuses = "; ".join(f"{status} {text}" for status, text in statuses_of(words).items())
    return f"Example: {EXAMPLES[words]}\n\nExit status: {statuses}."


def add_epilogs(app: typer.Typer) -> None:
    """Give every command of a tree the end of its help, and the tree itself what is true of all."""
    for words, command in _commands(app, ""):
        command.epilog = epilog_of(words)
    statuses = "; ".join(f"{status} {text}" for status, text in EXIT_STATUSES.items())
    app.info.epilog = f"{LOGIN}\n\nExit status: {statuses}."


def _commands(app: typer.Typer, prefix: str) -> Iterator[tuple[str, CommandInfo]]:
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback is not None else "")
        yield f"{prefix}{name}", command
    for group in app.registered_groups:
        below = f"{prefix}{group.name} " if isinstance(group.name, str) else prefix
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, below)
