"""`twinsite site …`: the availability zones, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.asking import YesOption, confirm_by_name
from twinsite.cli.completing import complete_site
from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, format_bytes, format_time, print_data, print_items, print_rows

if TYPE_CHECKING:
    from twinsite.client.clients import Client
    from twinsite.client.models import Site

site_app = typer.Typer(no_args_is_help=True)

SiteArgument = Annotated[str, typer.Argument(metavar="AZ", help="The availability zone.", autocompletion=complete_site)]

_COLUMNS = {
    "name": "AZ",
    "state": "State",
    "node_name": "Node",
    "last_seen_at": "Last seen (UTC)",
    "free": "Free",
    "volumes": "Volumes",
    "to_remove": "To remove",
}


@site_app.command("list")
def list_all(output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None) -> None:
    """List all sites, with their nodes and pools."""
    with open_api(data, cloud) as api:
        sites = api.sites()
    if output.is_data:
        print_items(output, sites, {})
        return
    print_rows([_row(site) for site in sites], _COLUMNS)


def _row(site: Site) -> dict[str, object]:
    state = "connected" if site.connected else "silent"
    if site.lost_at is not None:
        state = f"lost since {format_time(site.lost_at)}"
    free = f"{format_bytes(site.pool_free_bytes)} of {format_bytes(site.pool_total_bytes)}"
    shown = {key: getattr(site, key) for key in ("name", "node_name", "last_seen_at", "volumes", "to_remove")}
    return {**shown, "state": state, "free": free}


@site_app.command("forget")
def forget(
    site: SiteArgument,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Give up a site that is gone for good: nothing waits for its node any more, and what lies there is not used again.

    Its groups, pairs and volumes can be deleted then. A node that comes back removes those, and serves nothing.
    """
    with open_api(data, cloud) as api:
        question = f"Give up the site {site} for good; the content of its volumes is never used again"
        confirm_by_name([site], question, yes)
        api.forget_site(site)
        _print_changed(api, site, output)


@site_app.command("restore")
def restore(
    site: SiteArgument, output: OutputOption = Output.TABLE, data: DataOption = None, cloud: CloudOption = None
) -> None:
    """Use a site again that was given up, once all its volumes are deleted."""
    with open_api(data, cloud) as api:
        api.restore_site(site)
        _print_changed(api, site, output)


def _print_changed(api: Client, name: str, output: Output) -> None:
    """Print a site as it is now, for a program."""
    if output.is_data:
        print_data(output, next(site.as_json() for site in api.sites() if site.name == name))
