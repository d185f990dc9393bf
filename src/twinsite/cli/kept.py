"""`twinsite kept`: what a former primary's disks held before they were copied to. Works on the site's own machine."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from twinsite.cli.asking import YesOption, confirm
from twinsite.cli.output import format_bytes
from twinsite.core.limits import BLOCK_BYTES

kept_app = typer.Typer(no_args_is_help=True)

LogArgument = Annotated[Path, typer.Argument(metavar="LOG", help="A log, as 'twinsite kept list' shows it.")]


@kept_app.command("list")
def list_kept(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The site's directory, or one of its groups'.")],
) -> None:
    """Show the logs that are kept in a site's directory, and how much of each volume."""
    from twinsite.worker.kept_writes import find_kept  # noqa: PLC0415 (each command loads only what it needs)

    for kept in find_kept(directory):
        at = datetime.datetime.fromtimestamp(kept.header.point_at, datetime.UTC)
        typer.echo(f"{kept.path}  overwritten from {at:%Y-%m-%d %H:%M:%S} UTC on")
        for volume_id, blocks in sorted(kept.blocks.items()):
            typer.echo(f"  volume {volume_id}: {format_bytes(blocks * BLOCK_BYTES)}")


@kept_app.command("put-back")
def put_back_kept(
    log: LogArgument,
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="The volume's id.")],
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="A copy of the volume's disk; it is written to.")],
) -> None:
    """Make of a copy of the disk what the former primary held: never do this to the disk itself."""
    from twinsite.worker.kept_writes import put_back  # noqa: PLC0415

    typer.echo(f"{format_bytes(put_back(log, volume, copy))} put back into {copy}")


@kept_app.command("discard")
def discard_kept(log: LogArgument, yes: YesOption = False) -> None:
    """Remove a log. What only the former primary had is gone then."""
    from twinsite.worker.kept_writes import find_kept  # noqa: PLC0415

    if log.resolve() not in [kept.path.resolve() for kept in find_kept(log.parent)]:
        raise typer.BadParameter(f"{log} is not a kept log")
    confirm(f"Remove {log} for good?", yes)
    log.unlink()
