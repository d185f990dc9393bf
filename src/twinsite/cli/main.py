"""The command `twinsite`: puts the commands together, and turns every expected error into one sentence.

Exit statuses: 0 done; 1 refused or failed; 2 wrong usage or configuration; 3 the API cannot be reached; 4 not done
in the time that was given to wait; 5 `twinsite status --check` found something that needs a hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import twinsite
import twinsite.cli.extend  # These add their commands to those of groups and volumes.
import twinsite.cli.history
import twinsite.cli.moves
import twinsite.cli.plans
import twinsite.cli.volume_changes
from twinsite.cli.audit import audit_app
from twinsite.cli.doctor import doctor_app
from twinsite.cli.errors import exit_status
from twinsite.cli.events import events_app
from twinsite.cli.examples import add_epilogs
from twinsite.cli.groups import group_app
from twinsite.cli.kept import kept_app
from twinsite.cli.pairs import pair_app
from twinsite.cli.quotas import quota_app
from twinsite.cli.rehearse import rehearse_app
from twinsite.cli.services import services_app
from twinsite.cli.sites import site_app
from twinsite.cli.status import status_app
from twinsite.cli.token import token_app
from twinsite.cli.top import top_app
from twinsite.cli.volumes import volume_app
from twinsite.cli.webhooks import webhook_app
from twinsite.client.errors import WaitedTooLong
from twinsite.errors import TwinsiteError

app = typer.Typer(
    help="Twinsite: disaster recovery for groups of disks. Start with 'twinsite demo' or 'twinsite up --data DIR'.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(status_app)
app.add_typer(services_app)
app.add_typer(doctor_app)
app.add_typer(token_app)
app.add_typer(top_app)
app.add_typer(events_app)
app.add_typer(audit_app)
app.add_typer(volume_app, name="volume", help="Volumes: the disks.")
app.add_typer(pair_app, name="pair", help="Pairs: a production disk and its DR disk.")
app.add_typer(group_app, name="group", help="Groups: pairs replicated together, at one common point in time.")
app.add_typer(quota_app, name="quota", help="Quotas: what a project may have.")
app.add_typer(kept_app, name="kept", help="What a former primary alone had, on the site's own machine.")
app.add_typer(site_app, name="site", help="Sites: the availability zones, for administrators.")
app.add_typer(rehearse_app, name="rehearse", help="Lose a site of 'twinsite up' on purpose, and bring it back.")
app.add_typer(webhook_app, name="webhook", help="Webhooks: where events are sent.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twinsite {twinsite.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before any command."""


@app.command("demo")
def demo(
    svg: Annotated[
        Path | None, typer.Option("--svg", dir_okay=False, help="Also write the run as a picture to this file.")
    ] = None,
) -> None:
    """Show the main job on a temporary directory: real disks, synchronized, checked, and cleaned up."""
    from twinsite.demo.story import run_demo  # noqa: PLC0415 (only this command needs it)

    raise typer.Exit(run_demo(svg))


add_epilogs(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments`, those of the process by default, and exit with its status."""
    try:
        app(arguments, prog_name="twinsite")
    except TwinsiteError as error:
        hint = "; --timeout sets it" if isinstance(error, WaitedTooLong) else ""
        typer.echo(f"twinsite: {error}{hint}", err=True)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        # Whoever read the output has enough of it.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
