"""`twinsite doctor`: looks at a machine and an installation, and says how to mend what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.options import OutputOption
from twinsite.cli.output import Output, print_data

if TYPE_CHECKING:
    from twinsite.doctor.findings import Finding

doctor_app = typer.Typer()

EXIT_TROUBLE = 1
SITE_DEFAULT = "az1"
_MARKS = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}


@doctor_app.command("doctor")
def doctor(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", envvar="TWINSITE_DATA", resolve_path=True, help="A data directory."),
    ] = None,
    controller: Annotated[
        str | None, typer.Option("--controller", metavar="URL", help="Address of a controller to ask.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", dir_okay=False, exists=True, help="Authority of its certificate.")
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Something at the other site; repeat it for more."),
    ] = None,
    ports: Annotated[
        str | None, typer.Option("--ports", metavar="FIRST-LAST", help="Ports that are to be listened on here.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address for --ports.")] = "127.0.0.1",
    site: Annotated[str, typer.Option("--site", metavar="AZ", help="The site whose paths are checked.")] = SITE_DEFAULT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at this machine, a data directory and what can be reached from here, and say how to mend what is wrong.

    Nothing is changed. Exit status 1 when there is an error; warnings alone give 0.
    """
    from twinsite.node.settings import parse_ports  # noqa: PLC0415 (each command loads only what it needs)

    wanted = parse_ports(ports) if ports is not None else range(0)
    found = list(_findings(data, site, controller, ca_file, peers or [], host, wanted))
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


def _findings(
    data: Path | None,
    site: str,
    controller: str | None,
    ca_file: Path | None,
    peers: list[str],
    host: str,
    ports: range,
) -> Iterator[Finding]:
    from twinsite.doctor.machine import check_machine  # noqa: PLC0415
    from twinsite.doctor.network import check_controller, check_peers, check_ports  # noqa: PLC0415
    from twinsite.doctor.secrets import check_secrets  # noqa: PLC0415
    from twinsite.doctor.storage import check_storage  # noqa: PLC0415

    yield from check_machine()
    if data is not None:
        yield from check_storage(data, site)
        yield from check_secrets(data)
    if controller is not None:
        yield from check_controller(controller, ca_file)
    yield from check_peers(peers)
    if ports:
        yield from check_ports(host, ports)
