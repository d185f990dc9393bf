"""`twinsite volume extend|update|tag|metadata`: what can be changed of a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    DescriptionOption,
    OutputOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.output import Output, console_for_progress, print_data, print_rows
from twinsite.cli.progress import show_status
from twinsite.cli.volumes import VolumeArgument, print_volume, volume_app
from twinsite.client.tags import tag_of


@volume_app.command("extend")
def extend(
    volume: VolumeArgument,
    size: Annotated[int, typer.Option("--size", metavar="GIB", min=1, help="The new size in GiB.")],
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Give a volume that is in no pair more space; 'twinsite group extend' is for those of pairs.

    Hosts that connect afterwards see the new size.
    """
    with open_api(data, cloud) as api:
        found = api.find_volume(volume)
        api.extend_volume(found.id, size)
        if wait:
            with show_status(console_for_progress(output)) as update:
                api.wait_for_volume(found.id, timeout, progress=update)
        print_volume(output, api.volume(found.id))


@volume_app.command("update")
def update_volume(
    volume: VolumeArgument,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The new name.")] = None,
    description: DescriptionOption = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Give a volume another name or description."""
    with open_api(data, cloud) as api:
        found = api.find_volume(volume)
        print_volume(output, api.update_volume(found.id, name=name, description=description))


@volume_app.command("tag")
def tag(
    volume: VolumeArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Tags to set; several at once.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="KEY", help="A tag to take away.")] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Set tags of a volume, take some away, and show those that it has then."""
    wanted = dict(tag_of(text) for text in tags or [])
    with open_api(data, cloud) as api:
        volume_id = api.find_volume(volume).id
        if remove:
            api.delete_tags(volume_id, remove)
        _print_entries(output, api.add_tags(volume_id, wanted) if wanted else api.tags(volume_id))


@volume_app.command("metadata")
def metadata(
    volume: VolumeArgument,
    entries: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Entries to set; several at once.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="KEY", help="An entry to take away.")] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Set entries of a volume's metadata, take some away, and show those that it has then."""
    wanted = dict(tag_of(text) for text in entries or [])
    with open_api(data, cloud) as api:
        volume_id = api.find_volume(volume).id
        if remove:
            api.delete_metadata(volume_id, remove)
        _print_entries(output, api.add_metadata(volume_id, wanted) if wanted else api.metadata(volume_id))


def _print_entries(output: Output, found: Mapping[str, str]) -> None:
    """Print keys with their values."""
    if output.is_data:
        print_data(output, found)
        return
    print_rows([{"key": key, "value": value} for key, value in sorted(found.items())], {"key": "Key", "value": "Value"})
