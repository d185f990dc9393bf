"""The application: routers, errors, and the controller behind them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

import twinsite
from twinsite.api import (
    accounts,
    audit,
    events,
    groups,
    identity,
    internal,
    metrics,
    overview,
    plans,
    quotas,
    replications,
    roles,
    sites,
    tags,
    traffic,
    unoffered,
    versions,
    volume_metadata,
    volumes,
    webhooks,
)
from twinsite.api.envelope import Envelope
from twinsite.api.errors import add_error_handlers
from twinsite.api.openapi import complete, operation_id
from twinsite.control.controller import Controller
from twinsite.control.settings import ControllerSettings

DESCRIPTION = """
Disaster recovery for groups of disks, behind the EVS replication API: pair a production disk with a DR disk in
another availability zone, group the pairs, and synchronize the group. Log in at `/identity/v3/auth/tokens` and put the
token from the header `X-Subject-Token` into `X-Auth-Token`.
"""

EMBEDDED_IDENTITY = (
    identity.login_router,
    identity.router,
    accounts.router,
    roles.router,
    roles.grant_router,
)
"""What is offered only where no real Keystone is in its place."""


class Application(FastAPI):
    """FastAPI, but for one thing: its OpenAPI document is completed."""

    settings: ControllerSettings

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document of this installation."""
        if not self.openapi_schema:
            complete(super().openapi(), self.settings)
        return super().openapi()


def create_app(settings: ControllerSettings) -> FastAPI:
    """Return the application. Its lifespan opens the database and closes it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.controller = await Controller.open(settings)
        try:
            yield
        finally:
            await app.state.controller.close()

    app = Application(
        title="Twinsite",
        version=twinsite.__version__,
        summary="Self-hosted disaster recovery for groups of disks",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.settings = settings
    app.state.request_metrics = metrics.RequestMetrics()
    app.add_middleware(metrics.RequestMeter, metrics=app.state.request_metrics)
    app.add_middleware(Envelope)
    add_error_handlers(app)
    app.router.routes.extend(_routes(is_identity_embedded=settings.keystone_auth_url is None))
    return app


@functools.cache
def _routes(*, is_identity_embedded: bool) -> list[BaseRoute]:
    """Return all that is offered. FastAPI takes long to look at it, so it does that once in a process."""
    offered = APIRouter(generate_unique_id_function=operation_id)
    for router in (
        internal.router,  # First, since nodes ask more than anybody, and each route before the right one is tried.
        internal.worker_router,
        versions.router,
        metrics.router,
        *(EMBEDDED_IDENTITY if is_identity_embedded else [versions.elsewhere_router]),
        replications.router,
        groups.router,
        plans.router,
        overview.router,
        traffic.router,
        events.router,
        webhooks.router,
        tags.router,
        tags.vendor_router,
        sites.router,
        audit.router,
    ):
        offered.include_router(router)
    for version in ("/v2", "/v3"):
        offered.include_router(volumes.router, prefix=version)
        offered.include_router(quotas.router, prefix=version)
        offered.include_router(volume_metadata.router, prefix=version)
        offered.include_router(unoffered.router, prefix=version)
    offered.include_router(unoffered.unoffered_router)
    if is_identity_embedded:
        offered.include_router(unoffered.unoffered_identity_router)
    return offered.routes
