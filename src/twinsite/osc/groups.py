"""`openstack evs replication group …`: pairs that are replicated together, at one common point in time."""

from __future__ import annotations

import argparse
from typing import Any

from osc_lib import exceptions
from osc_lib.command import command

from twinsite.osc.shown import (
    GROUP_COLUMNS,
    Columns,
    add_wait,
    client_of,
    group_fields,
    listed,
    one,
    statuses_shown,
)


def add_group(parser: argparse.ArgumentParser) -> None:
    """Add the group that a command is about."""
    parser.add_argument("group", metavar="<group>", help="Replication consistency group (name or ID)")


class CreateGroup(command.ShowOne):
    """Group pairs of one direction; nothing is copied before `group sync`."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the pairs and the options."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="<name>", nargs="?", help="Name of the group; it need not be unique")
        parser.add_argument(
            "--replication",
            metavar="<replication>",
            dest="replications",
            action="append",
            required=True,
            help="Pair to take in (name or ID); repeat the option for more",
        )
        parser.add_argument("--description", metavar="<description>", help="Free text")
        add_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Columns:
        """Create the group and show it."""
        client = client_of(self)
        pairs = [client.find_pair(text) for text in parsed_args.replications]
        group = client.create_group(
            pair_ids=[pair.id for pair in pairs],
            priority_station=pairs[0].priority_station,
            name=parsed_args.name,
            description=parsed_args.description,
        )
        if parsed_args.wait:
            with statuses_shown() as tell:
                group = client.wait_for_group(group.id, parsed_args.timeout, progress=tell)
        return one(group_fields(group))


class ListGroup(command.Lister):
    """List replication consistency groups."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the filters."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("--name", metavar="<name>", help="Only groups of this name")
        parser.add_argument("--status", metavar="<status>", help="Only groups in this status")
        parser.add_argument("--priority-station", metavar="<zone>", help="Only groups whose primary zone this is")
        parser.add_argument("--long", action="store_true", help="List more fields")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """List the groups."""
        groups = client_of(self).groups(
            name=parsed_args.name, status=parsed_args.status, priority_station=parsed_args.priority_station
        )
        more = ("replication_ids", "failure_detail", "description", "created_at") if parsed_args.long else ()
        return listed(groups, group_fields, (*GROUP_COLUMNS, *more))


class ShowGroup(command.ShowOne):
    """Show a replication consistency group, and whether a failover would lose anything now."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the group."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        add_group(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Columns:
        """Show the group."""
        return one(group_fields(client_of(self).find_group(parsed_args.group)))


class SetGroup(command.Command):
    """Change a group; its pairs only while it is paused. Synchronize it afterwards."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add what can be changed."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        add_group(parser)
        parser.add_argument("--name", metavar="<name>", help="New name")
        parser.add_argument("--description", metavar="<description>", help="New description")
        for verb in ("add", "remove"):
            parser.add_argument(
                f"--{verb}-replication",
                metavar="<replication>",
                action="append",
                default=[],
                help=f"Pair to {verb} (name or ID); repeat the option for more",
            )
        add_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Change the group."""
        client = client_of(self)
        changes = (parsed_args.name, parsed_args.description)
        if changes == (None, None) and not parsed_args.add_replication and not parsed_args.remove_replication:
            raise exceptions.CommandError("Nothing to change: give --name, --description, or pairs to add or remove")
        group_id = client.find_group(parsed_args.group).id
        client.update_group(
            group_id,
            name=parsed_args.name,
            description=parsed_args.description,
            add_pair_ids=[client.find_pair(text).id for text in parsed_args.add_replication],
            remove_pair_ids=[client.find_pair(text).id for text in parsed_args.remove_replication],
        )
        if parsed_args.wait:
            with statuses_shown() as tell:
                client.wait_for_group(group_id, parsed_args.timeout, progress=tell)


class DeleteGroup(command.Command):
    """Delete groups that have no pairs left; `group set --remove-replication` takes them out."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the groups."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("groups", metavar="<group>", nargs="+", help="Groups to delete (name or ID)")
        add_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete all, or none when one of them is unknown."""
        client = client_of(self)
        group_ids = [client.find_group(text).id for text in parsed_args.groups]
        for group_id in group_ids:
            client.delete_group(group_id)
        for group_id in group_ids if parsed_args.wait else ():
            client.wait_until_group_gone(group_id, parsed_args.timeout)
