"""What happens around each call of a router, in this order: who is it, is it their project, is the body sound.

The order matters: a stranger learns nothing about the rest, and nobody's body is read before it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from starlette.routing import Match
from starlette.types import Scope

from twinsite.api.acceptable import refuse_unacceptable
from twinsite.api.bodies import request_with_sound_body
from twinsite.control.actor import Actor, current_actor
from twinsite.control.controller import Controller
from twinsite.control.identity import ADMIN_ROLE, Caller
from twinsite.control.refusals import RequestRefused, bad_request

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

TOKEN_DOCUMENTATION = [Security(APIKeyHeader(name="X-Auth-Token", scheme_name="Keystone token", auto_error=False))]
"""Tells the OpenAPI page that a router needs a token; the routes below do the checking."""


def controller_of(request: Request) -> Controller:
    """Return the controller that this application serves."""
    controller: Controller = request.app.state.controller
    return controller


def caller_of(request: Request) -> Caller:
    """Return who makes the request."""
    caller: Caller = request.state.caller
    return caller


def public_url(request: Request) -> str:
    """Return the address under which the client reaches this API, without a slash at the end."""
    configured = controller_of(request).settings.public_url
    return (configured or str(request.base_url)).rstrip("/")


class OpenRoute(APIRoute):
    """A call for which no token is needed."""

    checks_body = True
    reserved: ClassVar[Mapping[str, frozenset[str]]] = {
        "volume_id": frozenset({"detail", "summary", "resource_instances"})
    }
    """Words that are no ids, because paths of their own have them in the same place."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether the route is meant, and with which words in the places of its parameters."""
        match, child_scope = super().matches(scope)
        words = child_scope.get("path_params", {})
        if match is not Match.NONE and any(words.get(name) in taken for name, taken in self.reserved.items()):
            return Match.NONE, {}
        return match, child_scope

    def get_route_handler(self) -> Handler:
        """Return the handler with the checks in front."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            await self.admit(request)
            refuse_unacceptable(request.headers.getlist("accept"))
            if self.checks_body and request.method in ("POST", "PUT", "PATCH"):
                request = await request_with_sound_body(request, controller_of(request).settings.body_seconds_max)
            return await handle(request)

        return checked

    async def admit(self, request: Request) -> None:
        """Refuse who may not make this call."""


class TokenRoute(OpenRoute):
    """A call that needs a token, of whatever scope."""

    async def admit(self, request: Request) -> None:
        """Refuse (401) a request without a good token."""
        text = request.headers.get("x-auth-token")
        request.state.caller = await controller_of(request).identity.authenticate(text)
        user = caller_of(request).token.user
        current_actor.set(Actor(user.name, user.id))


class ProjectRoute(TokenRoute):
    """A call on the objects of the project in its path."""

    async def admit(self, request: Request) -> None:
        """Refuse a request without a good token (401), or with one of another project (400)."""
        await super().admit(request)
        project_id = request.path_params["project_id"]
        if project_id != caller_of(request).project_id:
            raise bad_request(
                f"The project {project_id!r} in the URL is not the one that the token is scoped to.", "Common.0018"
            )


class AdminRoute(ProjectRoute):
    """A call that only administrators make."""

    async def admit(self, request: Request) -> None:
        """Refuse (403) who has not the role of an administrator on the project."""
        await super().admit(request)
        if ADMIN_ROLE not in caller_of(request).roles:
            raise RequestRefused(403, "EVS.5403", f"This call needs the role {ADMIN_ROLE!r} on the project.")


class NodeRoute(OpenRoute):
    """A call that only nodes make. Reports have a bound and a check of their own."""

    checks_body = False

    async def admit(self, request: Request) -> None:
        """Refuse (401) who does not have the nodes' token."""
        if not controller_of(request).is_node_token(request.headers.get("x-twinsite-node-token")):
            raise RequestRefused(401, "EVS.5401", "X-Twinsite-Node-Token is missing or wrong; see secrets/node-token.")
        current_actor.set(Actor(f"node of {request.path_params['site']}"[:255]))


class WorkerRoute(OpenRoute):
    """A call that only workers of the group in its path make. Their bodies are bounded and checked by the call."""

    checks_body = False

    async def admit(self, request: Request) -> None:
        """Refuse (401) who does not have the group's token, whether there is such a group or not."""
        text = request.headers.get("x-twinsite-worker-token")
        if not controller_of(request).is_worker_token(text, request.path_params["group_id"]):
            raise RequestRefused(401, "EVS.5401", "X-Twinsite-Worker-Token is missing or wrong for this group.")
