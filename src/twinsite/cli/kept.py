"""`twinsite kept`: what a former primary's disks held before they were copied to. Works on the site's own machine."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from twinsite.cli.asking import YesOption, confirm
from twinsite.cli.options import OutputOption
from twinsite.cli.output import Output, format_bytes, format_time, print_data
from twinsite.core.limits import BLOCK_BYTES

kept_app = typer.Typer(no_args_is_help=True)

LogArgument = Annotated[Path, typer.Argument(metavar="LOG", help="A log, as 'twinsite kept list' shows it.")]


@kept_app.command("list")
def list_kept(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The site's directory, or one of its groups'.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the logs that are kept in a site's directory, and how much of each volume."""
    from twinsite.worker.kept_writes import find_kept  # noqa: PLC0415 (each command loads only what it needs)

    found: list[dict[str, object]] = []
    for kept in find_kept(directory):
        at = datetime.datetime.fromtimestamp(kept.header.point_at, datetime.UTC)
        sizes = {volume_id: blocks * BLOCK_BYTES for volume_id, blocks in sorted(kept.blocks.items())}
        volumes = [{"id": volume_id, "bytes": size} for volume_id, size in sizes.items()]
        found.append({"log": str(kept.path), "overwritten_from": format_time(at), "volumes": volumes})
        if output.is_data:
            continue
        typer.echo(f"{kept.path}  overwritten from {at:%Y-%m-%d %H:%M:%S} UTC on")
        for volume_id, size in sizes.items():
            typer.echo(f"  volume {volume_id}: {format_bytes(size)}")
    if output.is_data:
        print_data(output, found)


@kept_app.command("put-back")
def put_back_kept(
    log: LogArgument,
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="The volume's id.")],
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="A copy of the volume's disk; it is written to.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Make of a copy of the disk what the former primary held: never do this to the disk itself."""
    from twinsite.worker.kept_writes import put_back  # noqa: PLC0415

    size = put_back(log, volume, copy)
    if output.is_data:
        print_data(output, {"copy": str(copy), "bytes": size})
    else:
        typer.echo(f"{format_bytes(size)} put back into {copy}")


@kept_app.command("discard")
def discard_kept(log: LogArgument, yes: YesOption = False, output: OutputOption = Output.TABLE) -> None:
    """Remove a log. What only the former primary had is gone then."""
    from twinsite.worker.undo_log import is_kept  # noqa: PLC0415

    if not is_kept(log) or not log.is_file():  # It may be damaged: then too it can go.
        raise typer.BadParameter(f"{log} is not a kept log")
    confirm(f"Remove {log} for good?", yes)
    log.unlink()
    if output.is_data:
        print_data(output, {"log": str(log)})
