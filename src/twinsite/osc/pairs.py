"""`openstack evs replication …`: pairs of a production disk and its DR disk."""

from __future__ import annotations

import argparse
from typing import Any

from osc_lib.command import command

from twinsite.osc.shown import PAIR_COLUMNS, Columns, add_wait, client_of, listed, one, pair_fields, statuses_shown


class CreateReplication(command.ShowOne):
    """Pair two volumes of one size and type in two availability zones; what is on the DR volume is overwritten."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the two volumes and the options."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="<name>", nargs="?", help="Name of the pair; it need not be unique")
        parser.add_argument(
            "--production", metavar="<volume>", required=True, help="Volume that hosts use (name or ID)"
        )
        parser.add_argument("--dr", metavar="<volume>", required=True, help="Volume that follows it (name or ID)")
        parser.add_argument("--description", metavar="<description>", help="Free text")
        add_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Columns:
        """Create the pair and show it."""
        client = client_of(self)
        production, dr = client.find_volume(parsed_args.production), client.find_volume(parsed_args.dr)
        pair = client.create_pair(
            volume_ids=[production.id, dr.id],
            priority_station=production.availability_zone,
            name=parsed_args.name,
            description=parsed_args.description,
        )
        if parsed_args.wait:
            with statuses_shown() as tell:
                pair = client.wait_for_pair(pair.id, parsed_args.timeout, progress=tell)
        return one(pair_fields(pair))


class ListReplication(command.Lister):
    """List replication pairs."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the filters."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("--name", metavar="<name>", help="Only pairs of this name")
        parser.add_argument("--status", metavar="<status>", help="Only pairs in this status")
        parser.add_argument("--group", metavar="<group>", help="Only pairs of this group (name or ID)")
        parser.add_argument("--long", action="store_true", help="List more fields")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """List the pairs."""
        client = client_of(self)
        group_id = client.find_group(parsed_args.group).id if parsed_args.group is not None else None
        pairs = client.pairs(name=parsed_args.name, status=parsed_args.status, group_id=group_id)
        more = ("volume_ids", "fault_level", "failure_detail", "created_at") if parsed_args.long else ()
        return listed(pairs, pair_fields, (*PAIR_COLUMNS, *more))


class ShowReplication(command.ShowOne):
    """Show a replication pair."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the pair."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("replication", metavar="<replication>", help="Pair to show (name or ID)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Columns:
        """Show the pair."""
        return one(pair_fields(client_of(self).find_pair(parsed_args.replication)))


class DeleteReplication(command.Command):
    """Delete replication pairs that are in no group; their volumes stay."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the pairs."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("replications", metavar="<replication>", nargs="+", help="Pairs to delete (name or ID)")
        add_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete all, or none when one of them is unknown."""
        client = client_of(self)
        pair_ids = [client.find_pair(text).id for text in parsed_args.replications]
        for pair_id in pair_ids:
            client.delete_pair(pair_id)
        for pair_id in pair_ids if parsed_args.wait else ():
            client.wait_until_pair_gone(pair_id, parsed_args.timeout)
