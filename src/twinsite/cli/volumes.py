"""`twinsite volume …`: the disks."""

from __future__ import annotations

import socket
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.asking import YesOption, confirm_by_name
from twinsite.cli.completing import complete_site, complete_volume
from twinsite.cli.deleting import delete_all
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    DescriptionOption,
    NameArgument,
    OutputOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.output import Output, print_data, print_items, print_object
from twinsite.cli.progress import show_waiting
from twinsite.client.attaching import TOOLS, texts

if TYPE_CHECKING:
    from twinsite.client.models import Volume

volume_app = typer.Typer(no_args_is_help=True)

VolumeArgument = Annotated[
    str,
    typer.Argument(
        metavar="VOLUME",
        help="Name, id, or the beginning of an id.",
        show_default=False,
        autocompletion=complete_volume,
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="NAME",
        help="Name of the host that uses the volume.",
        show_default="the name of this machine",
    ),
]


class How(StrEnum):
    """What `--how` takes."""

    QEMU = "qemu"
    LIBVIRT = "libvirt"
    NBD_CLIENT = "nbd-client"
    LIBNBD = "libnbd"
    NBDCOPY = "nbdcopy"
    FIO = "fio"
    ALL = "all"


_COLUMNS = {
    "id": "ID",
    "name": "Name",
    "status": "Status",
    "size": "GiB",
    "availability_zone": "AZ",
    "volume_type": "Type",
}


@volume_app.command("create")
def create(
    size: Annotated[int, typer.Option("--size", metavar="GIB", min=1, help="Size in GiB.")],
    zone: Annotated[
        str,
        typer.Option("--az", metavar="AZ", help="Availability zone, az1 for example.", autocompletion=complete_site),
    ],
    name: NameArgument = None,
    volume_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Volume type.")] = None,
    description: DescriptionOption = None,
    multiattach: Annotated[bool, typer.Option("--multiattach", help="Several hosts may use it at once.")] = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Create a volume."""
    with open_api(data, cloud) as api:
        volume = api.create_volume(
            size_gib=size,
            zone=zone,
            name=name,
            volume_type=volume_type,
            description=description,
            multiattach=multiattach or None,
        )
        if wait:
            with show_waiting() as update:
                volume = api.wait_for_volume(volume.id, timeout, progress=update)
        print_volume(output, volume)


@volume_app.command("list")
def list_all(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """List all volumes."""
    with open_api(data, cloud) as api:
        print_items(output, api.volumes(), _COLUMNS)


@volume_app.command("show")
def show(
    volume: VolumeArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Show one volume."""
    with open_api(data, cloud) as api:
        print_volume(output, api.find_volume(volume))


@volume_app.command("delete")
def delete(
    volumes: Annotated[
        list[str],
        typer.Argument(metavar="VOLUME", help="Names, ids, or beginnings of ids.", autocompletion=complete_volume),
    ],
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Delete volumes. A volume that is paired or attached is refused."""
    with open_api(data, cloud) as api:
        found = [api.find_volume(volume) for volume in volumes]
        seconds = timeout if wait else None
        delete_all("volume", found, api.delete_volume, api.wait_until_volume_gone, seconds, yes=yes, output=output)


@volume_app.command("connect")
def connect(
    volume: VolumeArgument,
    host: HostOption = socket.gethostname(),
    how: Annotated[
        How | None,
        typer.Option("--how", help="Print how to attach it with this tool instead, or with all of them."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Serve a volume to a host and print its NBD addresses, one a line. They stay the same for its whole life."""
    with open_api(data, cloud) as api:
        connection = api.connect_volume(api.find_volume(volume).id, host)
    ways = texts(connection.uris)
    shown = ways if how is None or how is How.ALL else {how.value: ways[how.value]}
    if output.is_data:
        print_data(output, {**connection.as_json(), **({} if how is None else {"how": shown})})
    elif how is None:
        for uri in connection.uris:
            typer.echo(uri)
        if sys.stdout.isatty():
            typer.echo(f"'--how all' prints how to attach it with {', '.join(TOOLS)}.", err=True)
    elif how is How.ALL:
        typer.echo("\n\n".join(f"# {tool}\n{text}" for tool, text in shown.items()))
    else:
        typer.echo(shown[how.value])


@volume_app.command("disconnect")
def disconnect(
    volume: VolumeArgument,
    host: HostOption = socket.gethostname(),
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """End the use of a volume by a host. A host that still uses it is cut off, so it asks for the volume's name."""
    with open_api(data, cloud) as api:
        found = api.find_volume(volume)
        if any(attachment.host_name == host for attachment in found.attachments):
            name = found.name or found.id
            confirm_by_name([name], f"End the use of {name} by {host}; it is cut off if it runs", yes)
        api.disconnect_volume(found.id, host)
        if output.is_data:
            print_volume(output, api.volume(found.id))


def print_volume(output: Output, volume: Volume) -> None:
    """Print one volume."""
    hosts = [attachment.host_name or attachment.id for attachment in volume.attachments]
    print_object(
        output,
        volume,
        [
            ("ID", volume.id),
            ("Name", volume.name),
            ("Description", volume.description),
            ("Status", volume.status),
            ("Size", f"{volume.size} GiB"),
            ("AZ", volume.availability_zone),
            ("Type", volume.volume_type),
            ("Hosts", hosts),
        ],
    )
