"""`openstack evs replication group sync|stop|reverse|failover|reprotect|extend`: the actions of groups."""

from __future__ import annotations

import argparse

from osc_lib import exceptions
from osc_lib.command import command

from twinsite.osc.groups import add_group
from twinsite.osc.shown import add_wait, client_of, statuses_shown, sync_shown


class _GroupCommand(command.Command):
    """A command about one group."""

    can_wait = True
    can_force = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the group and the options."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        add_group(parser)
        if self.can_force:
            parser.add_argument("--force", action="store_true", help=self.can_force)
        if self.can_wait:
            add_wait(parser)
        return parser


class SyncGroup(_GroupCommand):
    """Synchronize the data between the production disks and the DR disks of all pairs of a group."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Order it; wait until every write is acknowledged by both sites."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id
        client.sync_group(group_id)
        if parsed_args.wait:
            with sync_shown() as update:
                client.wait_for_sync(group_id, parsed_args.timeout, progress=update)


class StopGroup(_GroupCommand):
    """Pause the replication of a group at a common point in time; in force when the command ends."""

    can_wait = False
    can_force = "Let a primary go on that says that it may lack acknowledged writes"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Pause it."""
        client = client_of(self)
        client.stop_group(client.find_group(parsed_args.group).id, force=parsed_args.force)


class ReverseGroup(_GroupCommand):
    """Swap the two sites of an active group, as planned and without a loss."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Order it; wait until the group is available in the other direction."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id
        client.reverse_group(group_id)
        if parsed_args.wait:
            with statuses_shown() as tell:
                client.wait_for_group(group_id, parsed_args.timeout, progress=tell)


class FailoverGroup(_GroupCommand):
    """Make the DR side of a group primary, for when the primary site is lost; refused while that loses writes."""

    can_force = "Accept the loss that `group show` states under failover"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Promote it for good; wait until the new primary serves."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id
        client.failover_group(group_id, force=parsed_args.force)
        if parsed_args.wait:
            with statuses_shown() as tell:
                client.wait_for_group(group_id, parsed_args.timeout, wanted=("failovered",), progress=tell)


class ReprotectGroup(_GroupCommand):
    """Replicate a group that was failed over from its new primary; what the other site holds is overwritten."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Order it; wait until every write is acknowledged by both sites."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id
        client.reprotect_group(group_id)
        if parsed_args.wait:
            with sync_shown() as update:
                client.wait_for_sync(group_id, parsed_args.timeout, progress=update)


class ExtendGroup(_GroupCommand):
    """Extend both disks of pairs of a group, all of them or none; done when the command ends."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the sizes."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--size",
            metavar="<replication>=<GiB>",
            dest="sizes",
            action="append",
            required=True,
            type=_pair_and_size,
            help="A pair (name or ID) and its new size in GiB; repeat the option for more",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Extend them; with --wait, try again for what passes by itself."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id
        sizes_gib = {client.find_pair(text).id: size_gib for text, size_gib in parsed_args.sizes}
        if len(sizes_gib) < len(parsed_args.sizes):
            raise exceptions.CommandError("A pair is named twice; name each once")
        client.complete_extend(group_id, sizes_gib, parsed_args.timeout if parsed_args.wait else 0.0)


def _pair_and_size(text: str) -> tuple[str, int]:
    pair, _, size = text.rpartition("=")
    if not pair or not (size.isascii() and size.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: write <replication>=<GiB>, for example db=20")
    return pair, int(size)
