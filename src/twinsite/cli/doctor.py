"""`twinsite doctor`: looks at a machine and an installation, and says how to mend what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.options import CloudOption, OutputOption
from twinsite.cli.output import Output, print_data
from twinsite.errors import ConfigurationError

if TYPE_CHECKING:
    from twinsite.doctor.findings import Finding

doctor_app = typer.Typer()

EXIT_TROUBLE = 1
SITE_DEFAULT = "az1"
"""Of a data directory on which none has run yet."""
IDENTITY_PATH = "/identity/v3"
"""Where the controller's own identity is, below its address."""
_MARKS = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}


@doctor_app.command("doctor")
def doctor(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", envvar="TWINSITE_DATA", resolve_path=True, help="A data directory."),
    ] = None,
    controller: Annotated[
        str | None,
        typer.Option(
            "--controller",
            metavar="URL",
            help="Address of a controller to ask; otherwise that of the running 'twinsite up', or of the cloud that is "
            "configured.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", dir_okay=False, exists=True, help="Authority of its certificate.")
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Something at the other site; repeat it for more."),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="HOST:PORT", help="The --http-listen of a node; repeat it for more."),
    ] = None,
    ports: Annotated[
        str | None, typer.Option("--ports", metavar="FIRST-LAST", help="Ports that are to be listened on here.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address for --ports.")] = "127.0.0.1",
    site: Annotated[
        str | None, typer.Option("--site", metavar="AZ", help="The site whose paths are checked; all that are there.")
    ] = None,
    output: OutputOption = Output.TABLE,
    cloud: CloudOption = None,
) -> None:
    """Look at this machine, a data directory and what can be reached from here, and say how to mend what is wrong.

    Nothing is changed. Exit status 1 when there is an error; warnings alone give 0.
    """
    from twinsite.node.settings import parse_ports  # noqa: PLC0415 (each command loads only what it needs)

    wanted = parse_ports(ports) if ports is not None else range(0)
    if controller is None:
        controller, ca_file = _find_controller(data, cloud, ca_file)
    asked = _Asked(data, site, controller, ca_file, nodes or [], peers or [], host, wanted)
    found = list(_findings(asked))
    errors = sum(finding.level == "error" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    if output.is_data:
        print_data(output, {"errors": errors, "warnings": warnings, "findings": [item.as_json() for item in found]})
    else:
        for finding in found:
            typer.echo(f"{_MARKS[finding.level]:8} {finding.check}: {finding.text}")
            if finding.mend is not None:
                typer.echo(f"{'':8} -> {finding.mend}")
        typer.echo(f"\n{errors} errors, {warnings} warnings, {len(found)} things looked at.")
    if errors:
        raise typer.Exit(EXIT_TROUBLE)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be looked at."""

    data: Path | None
    site: str | None
    controller: str | None
    ca_file: Path | None
    nodes: Sequence[str]
    peers: Sequence[str]
    host: str
    ports: range


def _find_controller(data: Path | None, cloud: str | None, ca_file: Path | None) -> tuple[str | None, Path | None]:
    """Return the address and the authority of the controller that a running `up` or a configured cloud has, if any.

    A cloud with an identity of its own does not tell. Raises `ConfigurationError` when `cloud` names none.
    """
    from twinsite.client.cloud import find_cloud  # noqa: PLC0415
    from twinsite.pidfile import living_pid  # noqa: PLC0415

    is_up = data is not None and living_pid(data / "up.pid") is not None and (data / "clouds.yaml").is_file()
    try:
        found = find_cloud(data if is_up else None, cloud, os.environ, Path.cwd())
    except ConfigurationError:
        if cloud is not None:
            raise
        return None, ca_file
    address, separator, rest = found.auth_url.rstrip("/").rpartition(IDENTITY_PATH)
    if not separator or rest:
        return None, ca_file
    return address, ca_file or (Path(found.ca_file) if found.ca_file else None)


def _findings(asked: _Asked) -> Iterator[Finding]:
    from twinsite.doctor.machine import check_machine  # noqa: PLC0415
    from twinsite.doctor.network import check_controller, check_peers, check_ports  # noqa: PLC0415
    from twinsite.doctor.releases import check_node  # noqa: PLC0415
    from twinsite.doctor.secrets import check_secrets  # noqa: PLC0415
    from twinsite.doctor.storage import check_storage  # noqa: PLC0415
    from twinsite.node.settings import sites_of  # noqa: PLC0415

    yield from check_machine()
    if asked.data is not None:
        sites = [asked.site] if asked.site is not None else sites_of(asked.data) or [SITE_DEFAULT]
        yield from check_storage(asked.data, sites)
        yield from check_secrets(asked.data)
    if asked.controller is not None:
        yield from check_controller(asked.controller, asked.ca_file)
    for node in asked.nodes:
        yield from check_node(node)
    yield from check_peers(asked.peers)
    if asked.ports:
        yield from check_ports(asked.host, asked.ports)
