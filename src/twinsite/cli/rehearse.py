"""`twinsite rehearse`: loses a site of `twinsite up` as a power cut would, and brings it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinsite.cli.options import OutputOption
from twinsite.cli.output import Output, print_data
from twinsite.embedded.rehearsal import lose_site, return_site

rehearse_app = typer.Typer(no_args_is_help=True)

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Name of the site, az1 for example.")]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data", envvar="TWINSITE_DATA", file_okay=False, resolve_path=True, help="Directory that 'twinsite up' got."
    ),
]


@rehearse_app.command("lose")
def lose(site: SiteArgument, data: DataOption, output: OutputOption = Output.TABLE) -> None:
    """Kill everything of a site at once, with SIGKILL, and keep it down: what a power cut does to its processes.

    What runs at the other site, and the controller, is left to find out. Hosts of the site's disks lose their
    connections. Bring the site back with 'twinsite rehearse return SITE'.
    """
    killed = lose_site(data, site)
    if output.is_data:
        print_data(output, {"site": site, "processes_killed": killed})
        return
    typer.echo(f"{site} is lost: {killed} of its processes were killed, and none is started again.")
    typer.echo(
        f"See what that means with 'twinsite status'; bring the site back with 'twinsite rehearse return {site}'."
    )


@rehearse_app.command("return")
def bring_back(site: SiteArgument, data: DataOption, output: OutputOption = Output.TABLE) -> None:
    """Let a lost site start again."""
    was_lost = return_site(data, site)
    if output.is_data:
        print_data(output, {"site": site, "was_lost": was_lost})
    elif was_lost:
        typer.echo(f"{site} starts again.")
    else:
        typer.echo(f"{site} was not lost.")
