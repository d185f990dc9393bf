"""What can be reached from here: the controller with its arbiter, the other site; and ports to be listened on."""

from __future__ import annotations

import datetime
import email.utils
import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from cryptography import x509

from twinsite.doctor.findings import Finding, error, ok, warning
from twinsite.doctor.releases import judge_release
from twinsite.doctor.secrets import judge_expiry
from twinsite.messages import split_endpoint

CONNECT_SECONDS_MAX = 5.0
CLOCK_SECONDS_MAX = 5.0
"""A difference of clocks that is worth a warning; HTTP tells whole seconds."""
NOBODY = "00000000-0000-0000-0000-000000000000"


def check_controller(url: str, ca_file: Path | None) -> Iterator[Finding]:
    """Ask a controller whether it lives and can serve, and what time it is there."""
    address = url.rstrip("/")
    try:
        trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        with httpx.Client(verify=trusted, trust_env=False, timeout=CONNECT_SECONDS_MAX) as http:
            health = http.get(f"{address}/healthz")
            ready = http.get(f"{address}/readyz")
            arbiter = http.get(f"{address}/internal/v1/groups/{NOBODY}/arbiter")
            metrics = http.get(f"{address}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as cause:
        mend = "see that it runs, that the address is right, and that no firewall is in between; https needs --ca-file"
        yield error("controller", f"{address} cannot be reached: {cause or type(cause).__name__}", mend)
        return
    if health.status_code != httpx.codes.OK:
        yield error("controller", f"{address} answers {health.status_code}", "see that this is a twinsite controller")
        return
    yield ok("controller", f"{address} answers")
    if ready.status_code == httpx.codes.OK:
        yield ok("controller", "it is ready")
    else:
        yield error("controller", f"it is not ready: {ready.text[:200]}", "see its log; its database is needed")
    for site, is_there in sorted(health.json().get("sites", {}).items()):
        mend = f"see the unit twinsite-node@{site} on the machine of that site, and its way to the controller"
        yield ok("nodes", f"{site} is connected") if is_there else error("nodes", f"{site} is silent", mend)
    if arbiter.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.METHOD_NOT_ALLOWED):
        yield ok("arbiter", "it answers at the controller's address")
    else:
        mend = "let requests to /internal/ through: workers need the arbiter when the link between the sites breaks"
        yield error("arbiter", f"it answers {arbiter.status_code}", mend)
    yield from judge_release("the controller", metrics)
    yield from judge_clock(health.headers.get("date"), datetime.datetime.now(datetime.UTC))
    if address.startswith("https://"):
        yield from _certificate_of(address)


def judge_clock(date: str | None, now: datetime.datetime) -> Iterator[Finding]:
    """Compare the time of an HTTP answer with this machine's."""
    try:
        there = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return
    seconds = abs((now - there).total_seconds())
    if seconds > CLOCK_SECONDS_MAX:
        mend = "synchronize both clocks, with chrony or systemd-timesyncd"
        yield warning("clock", f"{seconds:.0f} s from the controller's", mend)
    else:
        yield ok("clock", "as the controller's")


def _certificate_of(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # Only its date is looked at.
    try:
        with (
            socket.create_connection((host, port), CONNECT_SECONDS_MAX) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            content = encrypted.getpeercert(binary_form=True)
    except OSError:
        return
    if content:
        yield judge_expiry(f"the certificate of {url}", x509.load_der_x509_certificate(content).not_valid_after_utc)


def check_peers(endpoints: Sequence[str]) -> Iterator[Finding]:
    """Connect to each "host:port" and say whether somebody listens."""
    for endpoint in endpoints:
        try:
            with socket.create_connection(split_endpoint(endpoint), CONNECT_SECONDS_MAX):
                yield ok("peer", f"{endpoint} can be reached")
        except ValueError:
            yield error("peer", f"{endpoint!r} is no HOST:PORT", "give for example --peer 10.0.2.20:10809")
        except OSError as cause:
            if cause.errno == errno.ECONNREFUSED:
                text = f"{endpoint}: the machine is there, and nobody listens on that port"
                yield warning("peer", text, "right if nothing runs there yet; otherwise see its log")
            else:
                mend = "see the network and the firewalls on the way"
                yield error("peer", f"{endpoint} cannot be reached: {cause.strerror or cause}", mend)


def check_ports(host: str, ports: Sequence[int]) -> Iterator[Finding]:
    """Say which of these ports could be listened on now."""
    taken = []
    for port in ports:
        try:
            with socket.create_server((host, port)):
                pass
        except OSError as cause:
            if cause.errno != errno.EADDRINUSE:
                mend = "use an address of this machine, and ports above 1023"
                yield error("ports", f"{host}:{port} cannot be listened on: {cause.strerror}", mend)
                return
            taken.append(port)
    shown = ", ".join(map(str, taken[:10])) + (", …" if len(taken) > 10 else "")
    if taken:
        mend = "right if these are twinsite's own; otherwise choose others, 'ss -tlnp' says whose they are"
        yield warning("ports", f"in use at {host}: {shown}", mend)
    else:
        yield ok("ports", f"{len(ports)} ports at {host} are free")
