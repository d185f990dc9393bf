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

from twinsite.api.acceptable import JSON, refuse_unacceptable
from twinsite.api.auditing import GROUP_PARAMETER, READING_METHODS, entry_of
from twinsite.api.bodies import request_with_sound_body
from twinsite.control.actor import CONTROLLER, Actor, current_actor
from twinsite.control.audit_entry import Entry, Expected, current_request
from twinsite.control.caller import Caller
from twinsite.control.controller import Controller
from twinsite.control.policy.rules import rule_of, rules_of_actions
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


def client_address(request: Request) -> str:
    """Return the address that the request came from."""
    return request.client.host if request.client is not None else ""


def is_allowed(request: Request, rule: str | None, **target: str | None) -> bool:
    """Say whether the rules in force let the caller do this to what the path, or `target`, is about."""
    caller = caller_of(request)
    about = {"user_id": None, "project_id": caller.project_id, **request.path_params, **target}
    return rule is not None and controller_of(request).policy.allows(rule, caller.credentials(), about)


def require(request: Request, rule: str | None, **target: str | None) -> None:
    """Refuse (403) what the rules in force do not let the caller do."""
    if not is_allowed(request, rule, **target):
        roles = ", ".join(caller_of(request).roles) or "none"
        raise RequestRefused(
            403,
            "EVS.5403",
            f"The rule {rule!r} does not allow this to your roles ({roles}). Ask an administrator for a role that it "
            "allows, or for another rule.",
        )


def auth_url(request: Request) -> str:
    """Return where to log in, without the version of the interface."""
    configured = controller_of(request).settings.keystone_auth_url
    return configured.rstrip("/").removesuffix("/v3") if configured else f"{public_url(request)}/identity"


def auth_challenge(request: Request) -> str:
    """Return the header's value that tells where to log in."""
    return f'Keystone uri="{auth_url(request)}/v3"'


def public_url(request: Request) -> str:
    """Return the address under which the client reaches this API, without a slash at the end."""
    configured = controller_of(request).settings.public_url
    return (configured or str(request.base_url)).rstrip("/")


class OpenRoute(APIRoute):
    """A call for which no token is needed."""

    checks_body = True
    reserved: ClassVar[Mapping[str, frozenset[str]]] = {
        "domain_id": frozenset({"config"}),
        "volume_id": frozenset({"detail", "summary", "resource_instances"}),
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
            refuse_unacceptable(request.headers.getlist("accept"), self.media_type(request))
            if self.checks_body and request.method in ("POST", "PUT", "PATCH"):
                request = await request_with_sound_body(request, controller_of(request).settings.body_seconds_max)
            await self.admit_body(request)
            self.announce(request)
            return await self.serve(handle, request)

        async def concluded(request: Request) -> Response:
            try:
                response = await checked(request)
            except Exception as error:
                await self.conclude(request, error)
                raise
            else:
                await self.conclude(request, response)
                return response
            finally:
                # What comes next in this task, or is begun by it, is another request's or nobody's.
                current_request.set(None)
                current_actor.set(CONTROLLER)

        return concluded

    def media_type(self, request: Request) -> str:
        """Return what the call answers."""
        return JSON

    async def admit(self, request: Request) -> None:
        """Refuse who may not make this call."""

    async def admit_body(self, request: Request) -> None:
        """Refuse who may not make the call that the body, which is sound, turns out to be."""

    async def serve(self, handle: Handler, request: Request) -> Response:
        """Make the call."""
        return await handle(request)

    def announce(self, request: Request) -> None:
        """Do what is to be done once a request is admitted."""

    async def conclude(self, request: Request, outcome: Response | Exception) -> None:
        """Do what is to be done before the answer leaves, whatever it is."""


class TokenRoute(OpenRoute):
    """A call that needs a token, of whatever scope, and is allowed by the rule of its operation.

    The rule of an action is known once its body is; see `control.policy.rules`.
    """

    needs_rule = True
    """Without one nobody may make the call."""

    async def admit(self, request: Request) -> None:
        """Refuse a request without a good token (401), or whose roles do not allow it (403)."""
        current_request.set(None)
        text = request.headers.get("x-auth-token")
        request.state.caller = await controller_of(request).authenticator.authenticate(text)
        caller = caller_of(request)
        current_actor.set(Actor(caller.user_name, caller.user_id, request.state.request_id))
        actions = rules_of_actions(self.path)
        rule = None if actions else rule_of(request.method, self.path)
        request.state.operation = rule or f"{min(actions.values(), default='').partition(':')[0]}:action"
        self.check_scope(request)
        if not actions and self.needs_rule:
            require(request, rule)

    def check_scope(self, request: Request) -> None:
        """Refuse a token that is good, but not for what the path is about."""

    async def admit_body(self, request: Request) -> None:
        """Refuse (403) an action that the caller's roles do not allow, and an unknown one to who may do none."""
        rules = rules_of_actions(self.path)
        if not rules:
            return
        body = await request.json()
        keys = list(body) if isinstance(body, dict) else []
        known = [rules[key] for key in keys if key in rules]
        if known:
            request.state.operation = known[0]
            for rule in known:
                require(request, rule)
        elif not any(is_allowed(request, rule) for rule in rules.values()):
            require(request, min(rules.values()))

    def announce(self, request: Request) -> None:
        """Let the change of a group take along the record that it was made, as it will be if nothing goes wrong."""
        if request.method in READING_METHODS or GROUP_PARAMETER not in request.path_params:
            return
        current_request.set(Expected(self._entry(request, Response(status_code=self.status_code or 200))))

    async def conclude(self, request: Request, outcome: Response | Exception) -> None:
        """Record who asked for what change with which result, unless nobody knows who it was."""
        if request.method in READING_METHODS or not hasattr(request.state, "caller"):
            return
        await controller_of(request).audit.record(self._entry(request, outcome), current_request.get())

    def _entry(self, request: Request, outcome: Response | Exception) -> Entry:
        object_id = "/".join(self.object_ids(request)) or None
        return entry_of(request, caller_of(request), request.state.operation, object_id, outcome)

    def object_ids(self, request: Request) -> list[str]:
        """Return what the path names."""
        return [str(value) for value in request.path_params.values()]


class ProjectRoute(TokenRoute):
    """A call on the objects of the project in its path."""

    def object_ids(self, request: Request) -> list[str]:
        """Return what the path names beside the project."""
        return [str(value) for name, value in request.path_params.items() if name != "project_id"]

    def check_scope(self, request: Request) -> None:
        """Refuse (400) a token of another project."""
        project_id = request.path_params["project_id"]
        if project_id != caller_of(request).project_id:
            raise bad_request(
                f"The project {project_id!r} in the URL is not the one that the token is scoped to.", "Common.0018"
            )


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
