"""Identity in the shape of Keystone v3, under /identity."""

from __future__ import annotations

import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers
from twinsite.api.accounts import domain_view, links, project_view
from twinsite.api.routes import (
    TOKEN_DOCUMENTATION,
    OpenRoute,
    TokenRoute,
    caller_of,
    client_address,
    controller_of,
    is_allowed,
    public_url,
)
from twinsite.api.schemas import AuthBody, AuthFields, DomainName, NamedTarget
from twinsite.control.caller import Caller
from twinsite.control.identity import NamedIn, PasswordLogin, Scope
from twinsite.control.models import Domain
from twinsite.control.refusals import bad_request, not_found, not_implemented

login_router = APIRouter(prefix="/identity/v3", tags=["Identity"], route_class=OpenRoute)
router = APIRouter(prefix="/identity/v3", tags=["Identity"], route_class=TokenRoute, dependencies=TOKEN_DOCUMENTATION)

SUBJECT_HEADER = "X-Subject-Token"
UNOFFERED_SCOPES = ("system", "OS-TRUST:trust")
VOLUME_SERVICES = (("volumev2", "v2"), ("volumev3", "v3"), ("block-storage", "v3"))


def _time(moment: datetime.datetime) -> str:
    """Return a time as Keystone writes it: RFC 3339 with Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _domain_view(domain: Domain) -> dict[str, str]:
    return {"id": domain.id, "name": domain.name}


def _catalog(request: Request, project_id: str | None) -> list[dict[str, Any]]:
    region = controller_of(request).settings.region
    url = public_url(request)
    services = [("identity", f"{url}/identity/v3")]
    if project_id is not None:
        services += [(kind, f"{url}/{version}/{project_id}") for kind, version in VOLUME_SERVICES]
    return [
        {
            "id": f"twinsite-{kind}",
            "type": kind,
            "name": kind,
            "endpoints": [
                {
                    "id": f"twinsite-{kind}-public",
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": address,
                }
            ],
        }
        for kind, address in services
    ]


def token_view(request: Request, caller: Caller, *, with_catalog: bool = True) -> dict[str, Any]:
    """Return a token as Keystone shows it."""
    token = caller.token
    assert token is not None, "tokens are shown by the identity that issues them"
    view: dict[str, Any] = {
        "methods": token.methods,
        "user": {
            "id": token.user.id,
            "name": token.user.name,
            "domain": _domain_view(token.user.domain),
            "password_expires_at": None,
        },
        "audit_ids": [token.audit_id],
        "issued_at": _time(token.issued_at),
        "expires_at": _time(token.expires_at),
    }
    if token.project is not None:
        project = token.project
        view["project"] = {"id": project.id, "name": project.name, "domain": _domain_view(project.domain)}
        view["is_domain"] = False
    if token.domain is not None:
        view["domain"] = _domain_view(token.domain)
    if token.project is not None or token.domain is not None:
        view["roles"] = [{"id": name, "name": name} for name in caller.roles]
        if with_catalog:
            view["catalog"] = _catalog(request, token.project_id)
    return {"token": view}


def _named(target: NamedTarget) -> NamedIn:
    domain = target.domain or DomainName()
    if target.id is None and (target.name is None or (domain.id is None and domain.name is None)):
        raise bad_request("A user or project is named by its id, or by its name together with a domain.")
    return NamedIn(target.id, target.name, domain.id, domain.name)


def _scope(fields: AuthFields) -> Scope:
    scope = fields.scope
    if scope is None or isinstance(scope, str):
        if scope not in (None, "unscoped"):
            raise bad_request('scope must be an object, or the text "unscoped".')
        return Scope()
    for name in (name for name, value in (scope.model_extra or {}).items() if value is not None):
        if name in UNOFFERED_SCOPES:
            raise not_implemented(f"scope.{name} is not offered here; log in to a project or a domain.")
        raise bad_request(f"scope names {name[:80]!r}; it may name a project or a domain.")
    if scope.project is not None and scope.domain is not None:
        raise bad_request("scope names both a project and a domain; give one.")
    if scope.project is not None:
        return Scope(project=_named(scope.project))
    if scope.domain is not None:
        if scope.domain.id is None and scope.domain.name is None:
            raise bad_request("scope.domain needs an id or a name.")
        return Scope(domain=NamedIn(id=scope.domain.id, name=scope.domain.name))
    return Scope()


@login_router.post("/auth/tokens", status_code=201, responses=answers.ERRORS)
async def log_in(request: Request, body: AuthBody) -> Response:
    """Log in with a password or a token; the new token is in the header X-Subject-Token."""
    identity = controller_of(request).identity
    fields = body.auth
    scope = _scope(fields)
    methods = fields.identity.methods
    if methods == ["password"] and fields.identity.password is not None:
        user = fields.identity.password.user
        login = PasswordLogin(_named(user), user.password)
        text, caller = await identity.log_in(login, scope, client_address(request))
    elif methods == ["token"] and fields.identity.token is not None:
        text, caller = await identity.exchange(fields.identity.token.id, scope)
    elif set(methods) <= {"password", "token"}:
        raise bad_request("auth.identity: name one method in methods, and give what it needs under its name.")
    else:
        raise not_implemented(f"Only the methods password and token are offered, not {methods[:4]}.")
    answer = token_view(request, caller, with_catalog="nocatalog" not in request.query_params)
    return JSONResponse(answer, 201, {SUBJECT_HEADER: text, "Vary": "X-Auth-Token"})


async def _subject(request: Request) -> tuple[str, Caller]:
    """Return the token that a request is about: the caller's own, or any for an administrator."""
    text = request.headers.get(SUBJECT_HEADER)
    if not text:
        raise bad_request(f"{SUBJECT_HEADER} is missing; it names the token that this is about.")
    caller = caller_of(request)
    identity = controller_of(request).identity
    try:
        subject = await identity.authenticate(text)
    except Exception:
        raise not_found("token", "in X-Subject-Token") from None
    if subject.user_id != caller.user_id and not is_allowed(request, "identity:use_any_token"):
        raise not_found("token", "in X-Subject-Token")
    return text, subject


@router.get("/auth/tokens", responses=answers.ERRORS_OF_ONE)
async def show_token(request: Request) -> Response:
    """Show the token in X-Subject-Token."""
    text, subject = await _subject(request)
    answer = token_view(request, subject, with_catalog="nocatalog" not in request.query_params)
    return JSONResponse(answer, 200, {SUBJECT_HEADER: text, "Vary": "X-Auth-Token"})


@router.head("/auth/tokens", responses=answers.ERRORS_OF_ONE)
async def check_token(request: Request) -> Response:
    """Say whether the token in X-Subject-Token is good."""
    text, _ = await _subject(request)
    return Response(None, 200, {SUBJECT_HEADER: text, "Vary": "X-Auth-Token"})


@router.delete("/auth/tokens", status_code=204, responses=answers.ERRORS_OF_ONE)
async def revoke_token(request: Request) -> Response:
    """End the life of the token in X-Subject-Token."""
    text, _ = await _subject(request)
    await controller_of(request).identity.revoke(text)
    return Response(None, 204)


@router.get("/auth/projects")
async def list_own_projects(request: Request) -> Response:
    """List the projects that the caller may log in to."""
    found = await controller_of(request).identity.projects(caller_of(request))
    enabled = [project_view(request, project) for project in found if project.enabled]
    return JSONResponse({"projects": enabled, "links": links(request)})


@router.get("/auth/domains")
async def list_own_domains(request: Request) -> Response:
    """List the domains that the caller may log in to."""
    found = await controller_of(request).identity.domains(caller_of(request))
    return JSONResponse({"domains": [domain_view(request, domain) for domain in found], "links": links(request)})


@router.get("/auth/catalog")
async def show_catalog(request: Request) -> Response:
    """Show where the services are, for the caller's scope."""
    catalog = _catalog(request, caller_of(request).project_id)
    return JSONResponse({"catalog": catalog, "links": links(request)})
