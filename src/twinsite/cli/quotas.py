"""`twinsite quota …`: what a project may have, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinsite.cli.options import CloudOption, DataOption, OutputOption, open_api
from twinsite.cli.output import Output, print_data, print_rows
from twinsite.errors import ConfigurationError

if TYPE_CHECKING:
    from twinsite.client.quotas import Quota

quota_app = typer.Typer(no_args_is_help=True)

ProjectOption = Annotated[
    str | None, typer.Option("--project", metavar="ID", help="A project, for administrators; otherwise one's own.")
]
_RESOURCES = {
    "volumes": "Volumes",
    "gigabytes": "GiB of all volumes",
    "per_volume_gigabytes": "GiB of one volume",
    "replications": "Pairs",
    "replication_consistency_groups": "Groups",
}


def _limit(option: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(option, metavar="N", min=-1, help=f"{help_text}; -1 for any.")
    return info


@quota_app.command("show")
def show(
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Show what a project may have, and what it has."""
    with open_api(data, cloud) as api:
        _print_quota(output, api.quota(project))


@quota_app.command("set")
def change(
    project: ProjectOption = None,
    volumes: Annotated[int | None, _limit("--volumes", "Volumes")] = None,
    gigabytes: Annotated[int | None, _limit("--gigabytes", "GiB of all volumes")] = None,
    per_volume: Annotated[int | None, _limit("--per-volume-gigabytes", "GiB of one volume")] = None,
    pairs: Annotated[int | None, _limit("--pairs", "Pairs")] = None,
    groups: Annotated[int | None, _limit("--groups", "Groups")] = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Change what a project may have; for administrators. What is left out stays."""
    if {volumes, gigabytes, per_volume, pairs, groups} == {None}:
        raise ConfigurationError("nothing is to be changed; give --volumes, --gigabytes or another limit")
    with open_api(data, cloud) as api:
        changed = api.change_quota(
            project,
            volumes=volumes,
            gigabytes=gigabytes,
            per_volume_gigabytes=per_volume,
            replications=pairs,
            replication_consistency_groups=groups,
        )
        _print_quota(output, changed)


@quota_app.command("reset")
def reset(
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Give a project the default limits again; for administrators."""
    with open_api(data, cloud) as api:
        _print_quota(output, api.reset_quota(project))


def _print_quota(output: Output, quota: Quota) -> None:
    if output.is_data:
        print_data(output, quota.as_json())
        return
    rows = []
    for field, label in _RESOURCES.items():
        use = getattr(quota, field)
        rows.append({"what": label, "limit": "any" if use.limit < 0 else use.limit, "in_use": use.in_use})
    print_rows(rows, {"what": "What", "limit": "Limit", "in_use": "In use"})
