"""What openstackclient loads: a version option, and a client that lives from the session of the command."""

from __future__ import annotations

import argparse
from typing import Any

from osc_lib import utils

from twinsite.client import Access, Client, GivenAccess, Trust
from twinsite.client.login import ENDPOINT_TYPE
from twinsite.errors import ConfigurationError

API_NAME = "evs"
API_VERSION_OPTION = "os_evs_api_version"
DEFAULT_API_VERSION = "2"
API_VERSIONS = ("2",)


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the global option that openstackclient expects of each interface."""
    parser.add_argument(
        "--os-evs-api-version",
        metavar="<evs-api-version>",
        default=utils.env("OS_EVS_API_VERSION", default=DEFAULT_API_VERSION),
        choices=API_VERSIONS,
        help=f"EVS replication API version, default={DEFAULT_API_VERSION} (Env: OS_EVS_API_VERSION)",
    )
    return parser


def check_api_version(version: str) -> bool:
    """Say whether there are commands for a version."""
    return version in API_VERSIONS


def make_client(instance: Any) -> Client:
    """Return a client with the token, the endpoint and the certificates of openstackclient's session."""
    session = instance.session

    def access(new: bool) -> Access:
        if new:
            session.invalidate()
        endpoint = instance.get_endpoint_for_service_type(
            ENDPOINT_TYPE, region_name=instance.region_name, interface=instance.interface
        )
        if not endpoint:
            where = f" in region {instance.region_name}" if instance.region_name else ""
            raise ConfigurationError(
                f"the catalogue has no {instance.interface} endpoint {ENDPOINT_TYPE!r}{where}, under which the EVS "
                "replication API stands"
            )
        return Access(endpoint.rstrip("/"), session.get_token())

    ca_file = session.verify if isinstance(session.verify, str) else None
    return Client(GivenAccess(access, Trust("the session of openstackclient", bool(session.verify), ca_file)))
