"""How a client gets a token: by a password or a token of a cloud, or from a session that somebody else keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twinsite.client.cloud import Cloud
from twinsite.client.errors import Unauthorized
from twinsite.client.session import decoded
from twinsite.client.steps import Access, Plan, Reply, Send
from twinsite.errors import PeerViolation

ENDPOINT_TYPE = "volumev2"
"""The catalogue entry under whose URL volumes, pairs and groups stand."""
SUBJECT_HEADER = "x-subject-token"


@dataclass(frozen=True, slots=True)
class Trust:
    """How certificates are checked, and whether a proxy of the environment is used. `source` is told to people."""

    source: str
    verify: bool = True
    ca_file: str | None = None
    use_proxy: bool = True


class Login(Protocol):
    """Whoever gives a client its access, again when the last one is no longer good."""

    @property
    def trust(self) -> Trust:
        """Return how the API's certificate is checked."""

    def plan(self) -> Plan[Access]:
        """Log in. Raises `ApiRefused` and what a request raises."""


class CloudLogin:
    """Logs in to Keystone's interface with what a `Cloud` has: a token if there is one, else the password."""

    def __init__(self, cloud: Cloud) -> None:
        """Use the credentials of `cloud`; nothing is sent yet."""
        self._cloud = cloud

    @property
    def trust(self) -> Trust:
        """Return what the cloud says of certificates. A proxy has no business between processes of one machine."""
        cloud = self._cloud
        return Trust(cloud.source, cloud.verify, cloud.ca_file, use_proxy=not cloud.is_local)

    def plan(self) -> Plan[Access]:
        """Log in. Raises `Unauthorized` with the user's name and never with the password."""
        cloud = self._cloud
        url = f"{cloud.auth_url}/auth/tokens"
        reply: Reply = yield Send("POST", url, cloud.login_body())
        if reply.status == 401:
            who = "token" if cloud.token else f"login of user {cloud.username!r}"
            raise Unauthorized(401, f"the {who} was refused ({cloud.source})")
        answer = decoded(reply, f"POST {url}")
        try:
            token = reply.headers[SUBJECT_HEADER]
            endpoint = self._find_endpoint(answer["token"]["catalog"])
        except (KeyError, TypeError) as error:
            raise PeerViolation(f"{cloud.auth_url} did not answer a token with a catalogue") from error
        return Access(endpoint, token)

    def _find_endpoint(self, catalog: list[dict[str, Any]]) -> str:
        region = self._cloud.region
        for entry in catalog:
            if entry["type"] != ENDPOINT_TYPE:
                continue
            for endpoint in entry["endpoints"]:
                its_region = endpoint.get("region_id") or endpoint.get("region")
                if endpoint["interface"] == "public" and region in {None, its_region}:
                    return str(endpoint["url"]).rstrip("/")
        where = f" in region {region}" if region else ""
        raise PeerViolation(f"the catalogue of {self._cloud.auth_url} has no public endpoint {ENDPOINT_TYPE!r}{where}")


class GivenAccess:
    """Takes tokens from whoever keeps a session, such as keystoneauth's in openstackclient."""

    def __init__(self, get: Callable[[bool], Access], trust: Trust) -> None:
        """`get` returns an access, a new one if it is called with True. It may block."""
        self._get = get
        self._trust = trust
        self._used = False

    @property
    def trust(self) -> Trust:
        """Return what was given."""
        return self._trust

    def plan(self) -> Plan[Access]:
        """Take an access; from the second time on, one that is new."""
        yield from ()
        access = self._get(self._used)
        self._used = True
        return access
