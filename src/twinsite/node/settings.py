"""What a node is told at its start, and where its files lie."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from twinsite.errors import ConfigurationError
from twinsite.messages import split_endpoint

SOCKET_PATH_BYTES_MAX = 107
"""Longest path of a Unix socket on Linux: sun_path without its final zero byte."""
LONGEST_ID = "00000000-0000-0000-0000-000000000000"

_SITE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A node's settings. `data_dir` is absolute; the node's own files lie in `data_dir/site`."""

    site: str
    controller_url: str
    data_dir: Path
    token: str = field(repr=False)
    nbd_host: str = "127.0.0.1"  # Where workers listen for hosts, and the address in the URIs.
    nbd_ports: range | None = None  # TCP ports for volumes; without them only Unix sockets are served.
    stream_host: str = "127.0.0.1"  # Where secondaries listen for the other site's primaries.
    stop_workers: bool = False  # Stop the workers together with the node.
    ca_file: Path | None = None  # Whom to trust at an https address of the controller, instead of the system's.
    http_listen: str | None = None  # "host:port" of the node's own /healthz, /readyz and /metrics; none without it.
    node_name: str = field(default_factory=socket.gethostname)

    @property
    def site_dir(self) -> Path:
        """The folder of this site."""
        return self.data_dir / self.site

    @property
    def pool_dir(self) -> Path:
        """The folder of the volumes' bytes."""
        return self.site_dir / "pool"

    @property
    def record_path(self) -> Path:
        """The file of what the node must remember."""
        return self.site_dir / "node.json"

    @property
    def pid_path(self) -> Path:
        """The node's own pid file."""
        return self.site_dir / "run" / "node.pid"

    @property
    def worker_run_dir(self) -> Path:
        """The folder of the workers' pid files and control sockets."""
        return self.site_dir / "run" / "w"

    @property
    def nbd_socket_dir(self) -> Path:
        """The folder of the volumes' NBD sockets."""
        return self.site_dir / "run" / "n"

    @property
    def log_dir(self) -> Path:
        """The folder of the workers' log files."""
        return self.site_dir / "logs"

    def worker_state_dir(self, worker_id: str) -> Path:
        """Return the folder of one worker's durable state."""
        return self.site_dir / "state" / worker_id

    def nbd_socket_path(self, volume_id: str) -> Path:
        """Return the NBD socket of a volume, the same for its whole life."""
        return self.nbd_socket_dir / f"{volume_id}.sock"

    def arbiter_url(self, group_id: str) -> str:
        """Return where the workers of a group ask the arbiter: at the controller that this node talks to."""
        return f"{self.controller_url.rstrip('/')}/internal/v1/groups/{group_id}/arbiter"

    def check(self) -> None:
        """Raise `ConfigurationError` for what cannot work."""
        if not _SITE.fullmatch(self.site):
            raise ConfigurationError(f"site {self.site!r}: use 1 to 64 letters, digits, '-' and '_'")
        if not self.controller_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"controller address {self.controller_url!r}: begin it with http:// or https://")
        if self.ca_file is not None:
            check_ca_file(self.ca_file)
        if self.http_listen is not None:
            parse_listen(self.http_listen)
        check_socket_paths(self)

    def create_directories(self) -> None:
        """Make the folders that are missing. Raises `OSError`."""
        for path in (self.pool_dir, self.worker_run_dir, self.nbd_socket_dir, self.log_dir, self.site_dir / "state"):
            path.mkdir(parents=True, exist_ok=True)


def sites_of(data_dir: Path) -> list[str]:
    """Return the sites whose nodes have run on a data directory."""
    return sorted(path.parent.name for path in data_dir.glob("*/pool"))


def check_ca_file(path: Path) -> None:
    """Raise `ConfigurationError` when a file holds no authority that could be trusted."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # What is wrong in its content is an `ssl.SSLError`, which is one.
        reason = error.strerror if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigurationError(f"file of the certificate authority {path}: {reason}; copy it anew") from error


def check_socket_paths(settings: NodeSettings) -> None:
    """Raise `ConfigurationError` when a socket path below the data directory would be longer than Linux allows."""
    for path in (settings.nbd_socket_path(LONGEST_ID), settings.worker_run_dir / f"{LONGEST_ID}.ctl"):
        excess = len(bytes(path)) - SOCKET_PATH_BYTES_MAX
        if excess > 0:
            raise ConfigurationError(
                f"data directory {settings.data_dir} is {excess} bytes too long: socket paths below it would exceed "
                f"{SOCKET_PATH_BYTES_MAX} bytes; choose a shorter one"
            )


def parse_ports(text: str) -> range:
    """Return the ports of "FIRST-LAST", both included. Raises `ConfigurationError`."""
    first_text, dash, last_text = text.partition("-")
    if not (dash and first_text.isascii() and first_text.isdigit() and last_text.isascii() and last_text.isdigit()):
        raise ConfigurationError(f"ports {text!r}: write FIRST-LAST, for example 10809-10908")
    first, last = int(first_text), int(last_text)
    if not 1 <= first <= last <= _PORT_MAX:
        raise ConfigurationError(f"ports {text!r}: both must be from 1 to {_PORT_MAX}, the first not above the last")
    return range(first, last + 1)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT", an IPv6 address in brackets. Raises `ConfigurationError`."""
    try:
        host, port = split_endpoint(text)
    except ValueError:
        host, port = "", -1
    if not host or not 0 <= port <= _PORT_MAX:
        raise ConfigurationError(f"address {text!r}: write HOST:PORT, for example 127.0.0.1:9776")
    return host, port


def host_and_port(host: str, port: int) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    try:
        is_six = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_six = False
    return f"[{host}]:{port}" if is_six else f"{host}:{port}"


def user_name() -> str:
    """Return the name of the user as whom this process runs, the number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read_token(path: Path) -> str:
    """Return the token in a file. Raises `ConfigurationError` when there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except PermissionError as error:
        user = user_name()
        raise ConfigurationError(
            f"token file {path}: {error.strerror} for the user {user}, as whom the node runs; give it to that user "
            f"(chown {user} {path})"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"token file {path}: {error.strerror}; copy it from the controller") from error
    if not token:
        raise ConfigurationError(f"token file {path} is empty; copy it from the controller")
    return token
