"""The options that many commands share, and the session that they describe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.completing import complete_site
from twinsite.cli.output import Output

if TYPE_CHECKING:
    from twinsite.client.clients import Client

WAIT_SECONDS_DEFAULT = 300.0

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", envvar="TWINSITE_DATA", help="Data directory of a 'twinsite up'."),
]
CloudOption = Annotated[
    str | None,
    typer.Option(
        "--os-cloud",
        metavar="NAME",
        help="Cloud of clouds.yaml to use; otherwise OS_CLOUD, or the other OS_… variables.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table for people; json or yaml for programs.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it is done, not when it is ordered.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="Longest wait.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="AZ",
        help="The site that is to be primary; nothing is done once it is.",
        autocompletion=complete_site,
    ),
]
NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="A name; it need not be unique.")]
DescriptionOption = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Free text.")]


@contextlib.contextmanager
def open_api(data: Path | None, cloud: str | None) -> Iterator[Client]:
    """Yield a session with the cloud that the options or the environment name. Raises `ConfigurationError`."""
    # The HTTP client is most of the start-up time, and `--help` has no use for it.
    from twinsite.client.clients import Client  # noqa: PLC0415
    from twinsite.client.cloud import find_cloud  # noqa: PLC0415

    with Client(find_cloud(data, cloud, os.environ, Path.cwd())) as api:
        yield api
