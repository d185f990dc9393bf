"""The long-running commands: `up`, `node` and `controller`. Each stays in the foreground and logs to standard error.

`python -m twinsite.cli.services` runs them without the rest of the command line; that is how `up` starts its parts.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from twinsite.errors import ConfigurationError

EXIT_CONFIGURATION = 2

services_app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

DataOption = Annotated[
    Path, typer.Option("--data", file_okay=False, resolve_path=True, help="Directory of the installation's data.")
]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log JSON lines instead of readable text.")]


@services_app.command()
def up(
    data: DataOption,
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 for a free one.")] = 8776,
    tls: Annotated[
        bool, typer.Option("--tls", help="Offer the API over https, with a certificate of an authority of its own.")
    ] = False,
    node_http_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65000,
            help="Port of az1's /healthz, /readyz and /metrics; az2's is the next one. 0 for free ones.",
        ),
    ] = None,
    log_json: LogJsonOption = False,
) -> None:
    """Run everything on this machine: a controller and the sites az1 and az2."""
    from twinsite.embedded.up import UpSettings, run_up  # noqa: PLC0415 (each command loads only what it needs)

    with _service(log_json, logging.WARNING):
        run_up(UpSettings(data, host, port, log_json, tls, node_http_port), announce=typer.echo)


@services_app.command()
def node(
    data: DataOption,
    site: Annotated[str, typer.Option(help="Name of this site, az1 for example.")],
    controller: Annotated[str, typer.Option(help="Address of the controller: http(s)://HOST:PORT.")],
    # Whether it can be read is said by who reads it, with the way out.
    token_file: Annotated[
        Path, typer.Option(dir_okay=False, readable=False, help="File with the controller's node token.")
    ],
    nbd_host: Annotated[str, typer.Option(help="Address at which hosts reach volumes over TCP.")] = "127.0.0.1",
    nbd_ports: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="TCP ports for volumes; without it only Unix sockets.")
    ] = None,
    stream_host: Annotated[
        str, typer.Option(help="Address at which the other site reaches this one's DR disks.")
    ] = "127.0.0.1",
    ca_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, resolve_path=True, help="Authority of an https controller's certificate."),
    ] = None,
    http_listen: Annotated[
        str | None,
        typer.Option("--http-listen", metavar="HOST:PORT", help="Where /healthz, /readyz and /metrics are answered."),
    ] = None,
    stop_workers: Annotated[
        bool, typer.Option("--stop-workers", help="End the workers together with the node; by default they go on.")
    ] = False,
    log_json: LogJsonOption = False,
) -> None:
    """Run the node of one site: its pool of volumes and its workers."""
    from twinsite.node.service import run_node  # noqa: PLC0415
    from twinsite.node.settings import NodeSettings, parse_ports, read_token  # noqa: PLC0415

    with _service(log_json, logging.INFO):
        settings = NodeSettings(
            site=site,
            controller_url=controller,
            data_dir=data,
            token=read_token(token_file),
            nbd_host=nbd_host,
            nbd_ports=None if nbd_ports is None else parse_ports(nbd_ports),
            stream_host=stream_host,
            stop_workers=stop_workers,
            ca_file=ca_file,
            http_listen=http_listen,
        )
        run_node(settings)


@services_app.command()
def controller(
    data: DataOption,
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 for a free one.")] = 8776,
    config: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Settings file; DATA/twinsite.toml by default.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(dir_okay=False, resolve_path=True, help="Certificate of the API; with it, https.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(dir_okay=False, resolve_path=True, help="Its key, when that is in another file.")
    ] = None,
    log_json: LogJsonOption = False,
) -> None:
    """Run the controller: the API and its database."""
    gc.disable()  # What is loaded stays: to look for garbage in it meanwhile takes a fifth of the time.
    from twinsite.api.server import run_controller  # noqa: PLC0415

    gc.enable()

    with _service(log_json, logging.INFO):
        run_controller(data, host, port, config, tls_certificate, tls_key)


@contextlib.contextmanager
def _service(log_json: bool, level: int) -> Iterator[None]:
    """Set up the logs, and turn an operator's error into one sentence and an exit status."""
    from twinsite.logs import configure_logs  # noqa: PLC0415

    configure_logs(as_json=log_json, level=level)
    try:
        yield
    except ConfigurationError as error:
        typer.echo(f"twinsite: {error}", err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from error
    except ValueError as error:
        typer.echo(f"twinsite: {_settings_sentence(error)}", err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from error


def _settings_sentence(error: ValueError) -> str:
    """Return what is wrong in the settings, without their values; re-raise what is not about settings."""
    from pydantic import ValidationError  # noqa: PLC0415

    if isinstance(error, tomllib.TOMLDecodeError):
        return f"the settings file is not TOML: {error}"
    if not isinstance(error, ValidationError):
        raise error
    problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'all'}: {item['msg']}" for item in error.errors())
    return f"the controller's settings (twinsite.toml, TWINSITE_… variables) cannot work: {problems}"


if __name__ == "__main__":
    services_app()
