"""`twinsite token`: log in for programs that speak HTTP themselves."""

from __future__ import annotations

import shlex

import typer

from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, print_data

token_app = typer.Typer()


@token_app.command("token")
def token(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """Log in and print ENDPOINT and TOKEN for a shell: eval "$(twinsite token)"."""
    with open_api(data, cloud) as api:
        access = api.access()
    if output.is_data:
        print_data(output, {"endpoint": access.endpoint, "token": access.token})
    else:
        typer.echo(f"export ENDPOINT={shlex.quote(access.endpoint)} TOKEN={shlex.quote(access.token)}")
