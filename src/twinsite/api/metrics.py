"""`GET /metrics`, for Prometheus: what the controller knows of sites and groups, and how it answers requests."""

from __future__ import annotations

import hmac
import ipaddress
import time

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinsite.api.routes import OpenRoute, client_address, controller_of
from twinsite.control.refusals import RequestRefused
from twinsite.exposition import CONTENT_TYPE, exposition

UNKNOWN = "other"
"""Takes the place of paths and methods that this API does not have: a stranger must not make up series."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""With one of these a request comes from farther away than its connection."""

router = APIRouter(route_class=OpenRoute, include_in_schema=False)


class RequestMetrics:
    """The counts of one application."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "twinsite_http_requests",
            "Requests that were answered, by the template of their path.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "twinsite_http_request_duration_seconds",
            "From a request's arrival to the end of its answer. Polls of nodes are held on purpose.",
            ["method", "route"],
            buckets=BUCKETS_SECONDS,
            registry=self.registry,
        )


class RequestMeter:
    """ASGI middleware that counts what the router answers."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        """Wrap `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # Of what ends in an exception.
        begun_at = time.perf_counter()

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            method = scope["method"] if scope["method"] in METHODS else UNKNOWN
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - begun_at)


@router.get("/metrics")
async def show_metrics(request: Request) -> Response:
    """Tell everything there is to count. The names are in docs/metrics.md."""
    _admit(request)
    families = await controller_of(request).measuring.families()
    metrics: RequestMetrics = request.app.state.request_metrics
    return Response(exposition(families, metrics.registry), media_type=CONTENT_TYPE)


def _admit(request: Request) -> None:
    """Refuse (401) who does not show the token of the settings; without one, whoever is not on this machine (403).

    The names of all projects' groups are in what is told.
    """
    token = controller_of(request).settings.metrics_token
    if token is not None:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        expected = token.get_secret_value().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode(errors="replace"), expected):
            raise RequestRefused(401, "EVS.5401", "Show the settings' metrics_token: 'Authorization: Bearer …'.")
        return
    is_forwarded = any(name in request.headers for name in FORWARDING_HEADERS)
    if is_forwarded or not _is_loopback(client_address(request)):
        raise RequestRefused(
            403, "EVS.5403", "Metrics are told on this machine only, as long as the settings have no metrics_token."
        )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
