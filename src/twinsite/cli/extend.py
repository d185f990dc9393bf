"""`twinsite group extend`: give the disks of pairs more space, at both sites."""

from __future__ import annotations

from typing import Annotated

import typer

from twinsite.cli.groups import GroupArgument, group_app
from twinsite.cli.options import (
    WAIT_SECONDS_DEFAULT,
    CloudOption,
    DataOption,
    OutputOption,
    TimeoutOption,
    WaitOption,
    open_api,
)
from twinsite.cli.output import Output, print_object
from twinsite.errors import ConfigurationError


@group_app.command("extend")
def extend(
    group: GroupArgument,
    sizes: Annotated[list[str], typer.Argument(metavar="PAIR=GIB", help="A pair and its new size; several at once.")],
    wait: WaitOption = False,
    timeout: TimeoutOption = WAIT_SECONDS_DEFAULT,
    output: OutputOption = Output.TABLE,
    data: DataOption = None,
    cloud: CloudOption = None,
) -> None:
    """Extend both disks of each listed pair, all of them or none. Hosts that connect afterwards see the new size.

    It can be repeated until it succeeds; --wait does that.
    """
    with open_api(data, cloud) as api:
        wanted = [_parse(size) for size in sizes]
        group_id = api.find_group(group).id
        sizes_gib = {api.find_pair(pair).id: size_gib for pair, size_gib in wanted}
        if len(sizes_gib) < len(wanted):
            raise ConfigurationError("a pair is named twice; name each once")
        api.complete_extend(group_id, sizes_gib, timeout if wait else 0.0)
        if output.is_data:
            print_object(output, api.group(group_id), [])


def _parse(text: str) -> tuple[str, int]:
    """Return the pair and the size in GiB. Raises `ConfigurationError`."""
    pair, _, size = text.rpartition("=")
    if not pair or not (size.isascii() and size.isdigit()):
        raise ConfigurationError(f"{text!r}: write PAIR=GIB, for example db=20")
    return pair, int(size)
