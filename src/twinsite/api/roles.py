"""Roles, and who has which of them where, in the shape of Keystone v3."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from twinsite.api import answers
from twinsite.api.accounts import given, links
from twinsite.api.filters import flag_of
from twinsite.api.routes import TOKEN_DOCUMENTATION, TokenRoute, controller_of, public_url
from twinsite.api.schemas import Body
from twinsite.control.directory import Target
from twinsite.control.models import Assignment, Domain, Project, Role, User

router = APIRouter(
    prefix="/identity/v3",
    tags=["Roles"],
    route_class=TokenRoute,
    dependencies=TOKEN_DOCUMENTATION,
    responses=answers.ERRORS_OF_ADMIN_ONE,
)

ON_PROJECT = "/projects/{target_id}/users/{user_id}/roles"
ON_DOMAIN = "/domains/{target_id}/users/{user_id}/roles"


class RoleFields(Body):
    """A role; in a change what is left out stays."""

    name: str | None = Field(None, examples=["operator"])
    description: str | None = None


class RoleBody(Body):
    """Body of POST /roles and PATCH /roles/{id}."""

    role: RoleFields


def role_view(request: Request, role: Role) -> dict[str, Any]:
    """Return a role as Keystone shows it."""
    return {
        "id": role.id,
        "name": role.name,
        "domain_id": None,
        "description": role.description,
        "options": {},
        "links": {"self": f"{public_url(request)}/identity/v3/roles/{role.id}"},
    }


@router.get("/roles")
async def list_roles(request: Request, name: str | None = None) -> Response:
    """List the roles."""
    found = await controller_of(request).directory.listed(Role, name=name)
    return JSONResponse({"roles": [role_view(request, role) for role in found], "links": links(request)})


@router.post("/roles", status_code=201)
async def create_role(request: Request, body: RoleBody) -> Response:
    """Make a role. It allows nothing before the policy file says so."""
    role = await controller_of(request).directory.create_role(given(body.role))
    return JSONResponse({"role": role_view(request, role)}, 201)


@router.get("/roles/{role_id}")
async def show_role(request: Request, role_id: str) -> Response:
    """Show a role."""
    return JSONResponse({"role": role_view(request, await controller_of(request).directory.show(Role, role_id))})


@router.patch("/roles/{role_id}")
async def change_role(request: Request, role_id: str, body: RoleBody) -> Response:
    """Rename or describe a role; the built-in ones keep their names."""
    role = await controller_of(request).directory.change_role(role_id, given(body.role))
    return JSONResponse({"role": role_view(request, role)})


@router.delete("/roles/{role_id}", status_code=204)
async def delete_role(request: Request, role_id: str) -> Response:
    """Delete a role that is not built in, and take it from everybody."""
    await controller_of(request).directory.delete_role(role_id)
    return Response(None, 204)


def _target(request: Request, target_id: str) -> Target:
    """Return what the path gives a role on."""
    on_domain = request.url.path.startswith(f"{router.prefix}/domains/")
    return Target(domain_id=target_id) if on_domain else Target(project_id=target_id)


@router.get(ON_PROJECT, name="list_roles_on_project")
@router.get(ON_DOMAIN, name="list_roles_on_domain")
async def list_grants(request: Request, target_id: str, user_id: str) -> Response:
    """List the roles that a user has on a project or domain."""
    found = await controller_of(request).directory.roles_on(_target(request, target_id), user_id)
    return JSONResponse({"roles": [role_view(request, role) for role in found], "links": links(request)})


@router.head(f"{ON_PROJECT}/{{role_id}}", status_code=204, name="check_role_on_project")
@router.head(f"{ON_DOMAIN}/{{role_id}}", status_code=204, name="check_role_on_domain")
async def check_grant(request: Request, target_id: str, user_id: str, role_id: str) -> Response:
    """Say whether a user has a role on a project or domain."""
    await controller_of(request).directory.has(_target(request, target_id), user_id, role_id)
    return Response(None, 204)


class GrantRoute(TokenRoute):
    """A call that needs no body, whatever its method."""

    checks_body = False


grant_router = APIRouter(
    prefix="/identity/v3",
    tags=["Roles"],
    route_class=GrantRoute,
    dependencies=TOKEN_DOCUMENTATION,
    responses=answers.ERRORS_OF_ADMIN_ONE,
)


@grant_router.put(f"{ON_PROJECT}/{{role_id}}", status_code=204, name="give_role_on_project")
@grant_router.put(f"{ON_DOMAIN}/{{role_id}}", status_code=204, name="give_role_on_domain")
async def give_role(request: Request, target_id: str, user_id: str, role_id: str) -> Response:
    """Give a user a role on a project or domain."""
    await controller_of(request).directory.grant(_target(request, target_id), user_id, role_id)
    return Response(None, 204)


@router.delete(f"{ON_PROJECT}/{{role_id}}", status_code=204, name="take_role_on_project")
@router.delete(f"{ON_DOMAIN}/{{role_id}}", status_code=204, name="take_role_on_domain")
async def take_role(request: Request, target_id: str, user_id: str, role_id: str) -> Response:
    """Take a role on a project or domain from a user; with the last one the tokens for it end."""
    await controller_of(request).directory.revoke(_target(request, target_id), user_id, role_id)
    return Response(None, 204)


@router.get("/role_assignments")
async def list_assignments(request: Request) -> Response:
    """List who has which role where; narrowed by user.id, role.id, scope.project.id and scope.domain.id."""
    query = request.query_params
    found = await controller_of(request).directory.assignments(
        user_id=query.get("user.id"),
        role_id=query.get("role.id"),
        project_id=query.get("scope.project.id"),
        domain_id=query.get("scope.domain.id"),
    )
    # There are no groups of users, and nothing is assigned to the system.
    if "group.id" in query or "scope.system" in query:
        found = []
    names = query.get("include_names")
    with_names = names == "" or flag_of("include_names", names)
    shown = [_assignment_view(request, item, with_names) for item in found]
    return JSONResponse({"role_assignments": shown, "links": links(request)})


def _assignment_view(request: Request, item: Assignment, with_names: bool) -> dict[str, Any]:
    target: Project | Domain | None = item.project if item.project is not None else item.domain
    assert target is not None, "a role is given on something"
    kind = "project" if item.project is not None else "domain"
    path = f"{kind}s/{target.id}/users/{item.user_id}/roles/{item.role_id}"
    return {
        "scope": {kind: _reference(target, with_names)},
        "user": _reference(item.user, with_names),
        "role": _reference(item.role, with_names),
        "links": {"assignment": f"{public_url(request)}/identity/v3/{path}"},
    }


def _reference(entry: User | Project | Domain | Role, with_names: bool) -> dict[str, Any]:
    view: dict[str, Any] = {"id": entry.id}
    if with_names:
        view["name"] = entry.name
        if isinstance(entry, User | Project):
            view["domain"] = {"id": entry.domain.id, "name": entry.domain.name}
    return view
