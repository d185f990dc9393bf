"""A client of the HTTP API: logs in, speaks JSON, and turns every refusal into a sentence.

The command line and the demo use it; a program would rather use openstacksdk.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from twinsite.cli.cloud import Cloud
from twinsite.cli.errors import ApiRefused, ApiUnreachable
from twinsite.cli.models import ConnectionInfo, Group, GroupEvent, Pair, Site, Volume
from twinsite.errors import PeerViolation

CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 90.0
"""Longest wait for one answer: stopping a group and connecting a volume are in force before theirs."""
PAGE_ITEMS = 1000
"""Items asked for in one list request: the most that the API gives."""
PAGES_MAX = 1000
"""Most pages of one list."""
ENDPOINT_TYPE = "volumev2"
"""The catalogue entry under whose URL volumes, pairs and groups stand."""

PAIRS = "os-vendor-replications"
GROUPS = "os-vendor-replication-consistency-groups"
SITES = "os-vendor-sites"
SYNC_ACTION = "os-sync-replication-consistency-group"
STOP_ACTION = "os-stop-replication-consistency-group"
FAILOVER_ACTION = "os-failover-replication-consistency-group"
REVERSE_ACTION = "os-reverse-replication-consistency-group"
EXTEND_ACTION = "os-extend-replication-volumes"
REPROTECT_ACTION = "os-reprotect-replication-consistency-group"


class ApiClient:
    """A session of one user in one project. Logs in at the first request, and again when the token has expired.

    Every method raises `ApiRefused`, `ApiUnreachable`, or `PeerViolation` when the answer is not the API's.
    """

    def __init__(self, cloud: Cloud) -> None:
        """Talk to `cloud`; nothing is sent yet."""
        self.cloud = cloud
        self._endpoint: str | None = None
        self._http = httpx.Client(
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            verify=_verification(cloud),
            trust_env=not _is_loopback(cloud.auth_url),
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    # Volumes

    def volumes(self) -> list[Volume]:
        """Return all volumes of the project."""
        return cast(list[Volume], self._list("volumes/detail", "volumes"))

    def volume(self, volume_id: str) -> Volume:
        """Return one volume."""
        return cast(Volume, self._object("GET", f"volumes/{volume_id}", "volume"))

    def create_volume(self, *, size_gib: int, zone: str, **fields: Any) -> Volume:
        """Order a volume of `size_gib` in the availability zone `zone`; fields as in Cinder's request."""
        body = {"volume": {"size": size_gib, "availability_zone": zone, **_given(fields)}}
        return cast(Volume, self._object("POST", "volumes", "volume", body))

    def delete_volume(self, volume_id: str) -> None:
        """Order the deletion of a volume."""
        self.request("DELETE", f"volumes/{volume_id}")

    def connect_volume(self, volume_id: str, host: str) -> ConnectionInfo:
        """Attach a volume to `host`, so that it is served, and return where."""
        body = {"os-initialize_connection": {"connector": {"host": host}}}
        return cast(ConnectionInfo, self._object("POST", f"volumes/{volume_id}/action", "connection_info", body))

    def disconnect_volume(self, volume_id: str, host: str) -> None:
        """Detach a volume from `host`."""
        self.request("POST", f"volumes/{volume_id}/action", {"os-terminate_connection": {"connector": {"host": host}}})

    # Pairs

    def pairs(self) -> list[Pair]:
        """Return all pairs of the project."""
        return cast(list[Pair], self._list(PAIRS, "replications"))

    def pair(self, pair_id: str) -> Pair:
        """Return one pair."""
        return cast(Pair, self._object("GET", f"{PAIRS}/{pair_id}", "replication"))

    def create_pair(self, *, volume_ids: list[str], priority_station: str, **fields: Any) -> Pair:
        """Order a pair of two volumes; the one in `priority_station` is the production disk."""
        content = {"volume_ids": volume_ids, "priority_station": priority_station, "replication_model": "hypermetro"}
        return cast(Pair, self._object("POST", PAIRS, "replication", {"replication": {**content, **_given(fields)}}))

    def delete_pair(self, pair_id: str) -> None:
        """Order the deletion of a pair; its volumes stay."""
        self.request("DELETE", f"{PAIRS}/{pair_id}")

    # Groups

    def groups(self) -> list[Group]:
        """Return all groups of the project."""
        return cast(list[Group], self._list(GROUPS, "replication_consistency_groups"))

    def group(self, group_id: str) -> Group:
        """Return one group."""
        return cast(Group, self._object("GET", f"{GROUPS}/{group_id}", "replication_consistency_group"))

    def create_group(self, *, pair_ids: list[str], priority_station: str, **fields: Any) -> Group:
        """Order a group of pairs whose production side is `priority_station`."""
        content = {"replication_ids": pair_ids, "priority_station": priority_station, "replication_model": "hypermetro"}
        body = {"replication_consistency_group": {**content, **_given(fields)}}
        return cast(Group, self._object("POST", GROUPS, "replication_consistency_group", body))

    def update_group(self, group_id: str, **fields: Any) -> Group:
        """Order changes of a paused group: name, description, add_replication_ids, remove_replication_ids."""
        body = {"replication_consistency_group": _given(fields)}
        return cast(Group, self._object("PUT", f"{GROUPS}/{group_id}", "replication_consistency_group", body))

    def delete_group(self, group_id: str) -> None:
        """Order the deletion of a group without pairs."""
        self.request("DELETE", f"{GROUPS}/{group_id}")

    def sync_group(self, group_id: str) -> None:
        """Start to synchronize the production disks and the DR disks of all pairs of a group."""
        self.group_action(group_id, SYNC_ACTION)

    def stop_group(self, group_id: str, *, force: bool = False) -> None:
        """Pause the replication of a group; in force when this returns.

        `force` lets the primary go on although acknowledged writes may be missing there.
        """
        self.group_action(group_id, STOP_ACTION, {"force": True} if force else None)

    def failover_group(self, group_id: str, *, force: bool = False) -> None:
        """Make the DR side of a group primary; `force` accepts the loss that the group's failover outlook states."""
        self.group_action(group_id, FAILOVER_ACTION, {"force": True} if force else None)

    def reverse_group(self, group_id: str) -> None:
        """Start to swap the sites of an active group."""
        self.group_action(group_id, REVERSE_ACTION)

    def reprotect_group(self, group_id: str) -> None:
        """Replicate a group that was failed over from its new primary."""
        self.group_action(group_id, REPROTECT_ACTION)

    def extend_group(self, group_id: str, sizes_gib: Mapping[str, int]) -> None:
        """Give the disks of pairs, by the pairs' ids, new sizes in GiB; done when this returns. Safe to repeat."""
        replications = [{"id": pair_id, "new_size": size_gib} for pair_id, size_gib in sizes_gib.items()]
        self.group_action(group_id, EXTEND_ACTION, {"replications": replications})

    def group_events(self, group_id: str, limit: int) -> list[GroupEvent]:
        """Return a group's newest events, at most `limit` (1000)."""
        path = f"{GROUPS}/{group_id}/events"
        answer = self.request("GET", path, parameters={"limit": limit})
        if not isinstance(answer, dict) or not isinstance(answer.get("events"), list):
            raise PeerViolation(f"GET {self.url(path)} did not answer a list 'events'")
        return cast(list[GroupEvent], answer["events"])

    def group_action(self, group_id: str, action: str, value: object = None) -> None:
        """Call an action of a group; most take null for their value."""
        self.request("POST", f"{GROUPS}/{group_id}/action", {action: value})

    # Sites

    def sites(self) -> list[Site]:
        """Return all sites. Only for administrators, as the other calls on sites."""
        answer = self.request("GET", SITES)
        if not isinstance(answer, dict) or not isinstance(answer.get("sites"), list):
            raise PeerViolation(f"GET {self.url(SITES)} did not answer a list 'sites'")
        return cast(list[Site], answer["sites"])

    def forget_site(self, name: str) -> None:
        """Give up a site that is gone for good."""
        self.request("POST", f"{SITES}/{name}/action", {"os-forget-site": None})

    def restore_site(self, name: str) -> None:
        """Let a site be used again that was given up and has no volumes any more."""
        self.request("POST", f"{SITES}/{name}/action", {"os-restore-site": None})

    # Transport

    def session(self) -> tuple[str, str]:
        """Log in and return (endpoint of the project, token), for a program that sends its own requests."""
        self._log_in()
        assert self._endpoint is not None
        return self._endpoint, self._http.headers["X-Auth-Token"]

    def url(self, path: str) -> str:
        """Return the full address of `path` below the project; logs in if that has not happened."""
        if self._endpoint is None:
            self._log_in()
        return f"{self._endpoint}/{path}"

    def request(
        self, method: str, path: str, body: object = None, parameters: Mapping[str, str | int] | None = None
    ) -> Any:
        """Send one request below the project's endpoint and return its decoded body, None when there is none."""
        url = self.url(path)
        response = self._send(method, url, body, parameters)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            response = self._send(method, url, body, parameters)
        return _decoded(response)

    def _object(self, method: str, path: str, key: str, body: object = None) -> Any:
        answer = self.request(method, path, body)
        if not isinstance(answer, dict) or not isinstance(answer.get(key), dict):
            raise PeerViolation(f"{method} {self.url(path)} did not answer an object {key!r}")
        return answer[key]

    def _list(self, path: str, key: str) -> list[Any]:
        items: list[Any] = []
        for _ in range(PAGES_MAX):
            parameters: dict[str, str | int] = {"limit": PAGE_ITEMS}
            if items:
                parameters["marker"] = items[-1]["id"]
            answer = self.request("GET", path, parameters=parameters)
            page = answer.get(key) if isinstance(answer, dict) else None
            if not isinstance(page, list):
                raise PeerViolation(f"GET {self.url(path)} did not answer a list {key!r}")
            items.extend(page)
            if len(page) < PAGE_ITEMS:
                return items
        raise PeerViolation(f"GET {self.url(path)} never stops answering more pages")

    def _send(
        self, method: str, url: str, body: object = None, parameters: Mapping[str, str | int] | None = None
    ) -> httpx.Response:
        try:
            return self._http.request(method, url, json=body, params=parameters)
        except httpx.TimeoutException as error:
            raise ApiUnreachable(f"{url} did not answer in time ({self.cloud.source})") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ApiUnreachable(
                f"{url} cannot be reached: {error} ({self.cloud.source}). Is the controller or 'twinsite up' running?"
            ) from error

    def _log_in(self) -> None:
        cloud = self.cloud
        user = {"name": cloud.username, "password": cloud.password, "domain": {"name": cloud.user_domain}}
        scope = {"project": {"name": cloud.project_name, "domain": {"name": cloud.project_domain}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        response = self._send("POST", f"{cloud.auth_url}/auth/tokens", body)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise ApiRefused(401, f"the login of user {cloud.username!r} was refused ({cloud.source})")
        answer = _decoded(response)
        try:
            self._http.headers["X-Auth-Token"] = response.headers["X-Subject-Token"]
            self._endpoint = self._find_endpoint(answer["token"]["catalog"])
        except (KeyError, TypeError) as error:
            raise PeerViolation(f"{cloud.auth_url} did not answer a token with a catalogue") from error

    def _find_endpoint(self, catalog: list[dict[str, Any]]) -> str:
        for entry in catalog:
            if entry["type"] != ENDPOINT_TYPE:
                continue
            for endpoint in entry["endpoints"]:
                region = endpoint.get("region_id") or endpoint.get("region")
                if endpoint["interface"] == "public" and self.cloud.region in {None, region}:
                    return str(endpoint["url"]).rstrip("/")
        where = f" in region {self.cloud.region}" if self.cloud.region else ""
        raise PeerViolation(f"the catalogue of {self.cloud.auth_url} has no public endpoint {ENDPOINT_TYPE!r}{where}")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _verification(cloud: Cloud) -> ssl.SSLContext | bool:
    """Return how httpx is to check certificates."""
    if not cloud.verify or cloud.auth_url.startswith("http://"):
        # Without TLS there is nothing to check, and loading the authorities would take longer than the request.
        return False
    return ssl.create_default_context(cafile=cloud.ca_file) if cloud.ca_file else True


def _is_loopback(url: str) -> bool:
    """Whether a proxy of the environment would be wrong for `url`."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decoded(response: httpx.Response) -> Any:
    try:
        answer = response.json() if response.content else None
    except ValueError:
        answer = None
        if response.is_success:
            raise PeerViolation(f"{response.request.url} did not answer JSON; is it the address of the API?") from None
    if response.is_success:
        return answer
    raise ApiRefused(
        response.status_code,
        _message(answer) or f"{response.request.method} {response.request.url} failed: {response.reason_phrase}",
        response.headers.get("X-Twinsite-Error-Code"),
        response.headers.get("x-openstack-request-id"),
    )


def _message(answer: Any) -> str | None:
    """Return the message of an error body `{"<fault>": {"code": …, "message": …}}`."""
    if isinstance(answer, dict):
        for fault in answer.values():
            if isinstance(fault, dict) and isinstance(fault.get("message"), str):
                return str(fault["message"]).strip()
    return None
