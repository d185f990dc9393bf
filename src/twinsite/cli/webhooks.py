"""`twinsite webhook …`: where a project's events are sent."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from twinsite.cli.asking import YesOption
from twinsite.cli.deleting import delete_all
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, print_items, print_object
from twinsite.errors import ConfigurationError

webhook_app = typer.Typer(no_args_is_help=True)

SECRET_BYTES = 32
DELIVERIES_DEFAULT = 20
DELIVERIES_MAX = 1000
"""Most deliveries that the API gives at once."""

WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Name, id, or the beginning of an id.")]

_COLUMNS = {"id": "ID", "name": "Name", "url": "URL", "kinds": "Kinds", "created_at": "Created (UTC)"}
_DELIVERY_COLUMNS = {
    "created_at": "Created (UTC)",
    "kinds": "Kinds",
    "state": "State",
    "attempts": "Attempts",
    "due_at": "Next attempt (UTC)",
    "answer_status": "Answer",
    "trouble": "Trouble",
    "id": "ID",
}


@webhook_app.command("create")
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to: http:// or https://.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="A name; it need not be unique.")] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="KIND", help="Only events of this kind; repeat it for more. See docs/events.md."
        ),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", dir_okay=False, help="File with the secret; a new one is printed without it."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Have events sent somewhere, signed. The secret is shown now and never again."""
    secret = secrets.token_hex(SECRET_BYTES) if secret_file is None else _read_secret(secret_file)
    with open_api(data, cloud) as api:
        webhook = api.create_webhook(url=url, secret=secret, name=name, kinds=kinds or ())
    print_object(output, webhook, [(heading, getattr(webhook, key)) for key, heading in _COLUMNS.items()])
    if secret_file is None:
        typer.echo(f"The secret, which is not shown again: {secret}", err=output is not Output.TABLE)


def _read_secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"secret file {path} cannot be read: {error}") from error


@webhook_app.command("list")
def list_all(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """List all webhooks."""
    with open_api(data, cloud) as api:
        print_items(output, api.webhooks(), _COLUMNS)


@webhook_app.command("show")
def show(
    webhook: WebhookArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Show one webhook."""
    with open_api(data, cloud) as api:
        found = api.find_webhook(webhook)
    print_object(output, found, [(heading, getattr(found, key)) for key, heading in _COLUMNS.items()])


@webhook_app.command("test")
def test(
    webhook: WebhookArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Send a test, once and at once. Exit status 1 when it did not arrive."""
    with open_api(data, cloud) as api:
        delivery = api.test_webhook(api.find_webhook(webhook).id)
    print_object(output, delivery, [(heading, getattr(delivery, key)) for key, heading in _DELIVERY_COLUMNS.items()])
    if delivery.state != "delivered":
        raise typer.Exit(1)


@webhook_app.command("deliveries")
def deliveries(
    webhook: WebhookArgument,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only those: pending, delivered or given_up.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=DELIVERIES_MAX, help="How many, the newest first.")
    ] = DELIVERIES_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """List what was sent to a webhook, waits to be, or was given up."""
    with open_api(data, cloud) as api:
        found = api.webhook_deliveries(api.find_webhook(webhook).id, state=state, limit=limit)
        print_items(output, found, _DELIVERY_COLUMNS)


@webhook_app.command("delete")
def delete(
    webhooks: Annotated[list[str], typer.Argument(metavar="WEBHOOK", help="Names, ids, or beginnings of ids.")],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Delete webhooks, and what waits to be sent to them."""
    with open_api(data, cloud) as api:
        found = [api.find_webhook(webhook) for webhook in webhooks]
        delete_all("webhook", found, api.delete_webhook, None, None, yes=yes, output=output)
