"""Users, projects and domains in the shape of Keystone v3, as far as the openstack command needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from twinsite.api import answers
from twinsite.api.filters import Flag, flag_of
from twinsite.api.routes import (
    TOKEN_DOCUMENTATION,
    TokenRoute,
    caller_of,
    client_address,
    controller_of,
    is_allowed,
    public_url,
)
from twinsite.api.schemas import Body
from twinsite.control.directory import missing
from twinsite.control.identity import DEFAULT_DOMAIN_ID, NamedIn, PasswordLogin
from twinsite.control.models import Domain, Project, User
from twinsite.control.refusals import bad_request

router = APIRouter(
    prefix="/identity/v3",
    tags=["Users and projects"],
    route_class=TokenRoute,
    dependencies=TOKEN_DOCUMENTATION,
    responses=answers.ERRORS_OF_ADMIN_ONE,
)


class UserFields(Body):
    """A user; in a change what is left out stays."""

    name: str | None = Field(None, examples=["alice"])
    domain_id: str | None = None
    password: str | None = None
    description: str | None = None
    email: str | None = None
    default_project_id: str | None = None
    enabled: bool | None = None


class UserBody(Body):
    """Body of POST /users and PATCH /users/{id}."""

    user: UserFields


class PasswordFields(Body):
    """The present password and the new one."""

    original_password: str
    password: str


class PasswordBody(Body):
    """Body of POST /users/{id}/password."""

    user: PasswordFields


class ProjectFields(Body):
    """A project; in a change what is left out stays. Projects stand in a domain and not in each other."""

    model_config = ConfigDict(strict=True, extra="ignore")

    name: str | None = Field(None, examples=["shop"])
    domain_id: str | None = None
    parent_id: str | None = None
    description: str | None = None
    enabled: bool | None = None
    is_domain: bool | None = None


class ProjectBody(Body):
    """Body of POST /projects and PATCH /projects/{id}."""

    project: ProjectFields


def links(request: Request) -> dict[str, Any]:
    """Return the links of a list, which is always one page."""
    return {"next": None, "previous": None, "self": str(request.url)}


def user_view(request: Request, user: User) -> dict[str, Any]:
    """Return a user as Keystone shows it."""
    view: dict[str, Any] = {
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "description": user.description,
        "enabled": user.enabled,
        "default_project_id": user.default_project_id,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{public_url(request)}/identity/v3/users/{user.id}"},
    }
    if user.email is not None:
        view["email"] = user.email
    return view


def project_view(request: Request, project: Project) -> dict[str, Any]:
    """Return a project as Keystone shows it."""
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.domain_id,
        "description": project.description,
        "enabled": project.enabled,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{public_url(request)}/identity/v3/projects/{project.id}"},
    }


def domain_view(request: Request, domain: Domain) -> dict[str, Any]:
    """Return a domain as Keystone shows it."""
    return {
        "id": domain.id,
        "name": domain.name,
        "description": domain.description,
        "enabled": domain.enabled,
        "tags": [],
        "options": {},
        "links": {"self": f"{public_url(request)}/identity/v3/domains/{domain.id}"},
    }


def given(fields: Body, *without: str) -> dict[str, Any]:
    """Return what a body says, without some of its fields."""
    return {name: value for name, value in fields if value is not None and name not in without}


def flag(text: str | None) -> bool | None:
    """Return what a query's `enabled` means; None when it is left out. Without a value it is true, as in Keystone."""
    return None if text is None else not text or flag_of("enabled", text)


@router.get("/users")
async def list_users(
    request: Request, name: str | None = None, domain_id: str | None = None, enabled: Flag = None
) -> Response:
    """List the users."""
    found = await controller_of(request).directory.listed(User, name=name, domain_id=domain_id, enabled=flag(enabled))
    return JSONResponse({"users": [user_view(request, user) for user in found], "links": links(request)})


@router.post("/users", status_code=201)
async def create_user(request: Request, body: UserBody) -> Response:
    """Make a user. Give it a role on a project then: without one it can do nothing."""
    values = {"domain_id": DEFAULT_DOMAIN_ID, **given(body.user, "password")}
    user = await controller_of(request).directory.create_user(values, body.user.password)
    return JSONResponse({"user": user_view(request, user)}, 201)


@router.get("/users/{user_id}")
async def show_user(request: Request, user_id: str) -> Response:
    """Show a user: oneself, or as an administrator any."""
    return JSONResponse({"user": user_view(request, await controller_of(request).directory.show(User, user_id))})


@router.patch("/users/{user_id}")
async def change_user(request: Request, user_id: str, body: UserBody) -> Response:
    """Change a user. A new password, and being disabled, end all of the user's tokens."""
    directory = controller_of(request).directory
    user = await directory.change_user(user_id, given(body.user, "password"), body.user.password)
    return JSONResponse({"user": user_view(request, user)})


@router.delete("/users/{user_id}", status_code=204)
async def delete_user(request: Request, user_id: str) -> Response:
    """Delete a user."""
    await controller_of(request).directory.delete_user(user_id)
    return Response(None, 204)


@router.post("/users/{user_id}/password", status_code=204)
async def change_own_password(request: Request, user_id: str, body: PasswordBody) -> Response:
    """Change one's password; the present one must be given. All of one's tokens end."""
    controller = controller_of(request)
    login = PasswordLogin(NamedIn(id=user_id), body.user.original_password)
    await controller.identity.check_password(login, client_address(request))
    await controller.directory.change_user(user_id, {}, body.user.password)
    return Response(None, 204)


@router.get("/users/{user_id}/projects")
async def list_projects_of_user(request: Request, user_id: str) -> Response:
    """List the projects that a user has a role on: oneself, or as an administrator any."""
    return _project_list(request, await controller_of(request).directory.projects_of(user_id))


def _project_list(request: Request, projects: Sequence[Project]) -> Response:
    return JSONResponse({"projects": [project_view(request, item) for item in projects], "links": links(request)})


@router.get("/projects")
async def list_projects(
    request: Request, name: str | None = None, domain_id: str | None = None, enabled: Flag = None
) -> Response:
    """List the projects that the caller has a role on; for administrators all of them."""
    controller = controller_of(request)
    wanted = {"name": name, "domain_id": domain_id, "enabled": flag(enabled)}
    if is_allowed(request, "identity:get_any_project"):
        return _project_list(request, await controller.directory.listed(Project, **wanted))
    own = await controller.identity.projects(caller_of(request))
    narrowed = [
        project
        for project in own
        if all(value is None or getattr(project, column) == value for column, value in wanted.items())
    ]
    return _project_list(request, narrowed)


@router.post("/projects", status_code=201)
async def create_project(request: Request, body: ProjectBody) -> Response:
    """Make a project."""
    fields = body.project
    if fields.is_domain:
        raise bad_request("Domains cannot be made here; make a project in one of those that there are.")
    domain_id = fields.domain_id or fields.parent_id or DEFAULT_DOMAIN_ID
    if fields.parent_id not in (None, domain_id):
        raise bad_request("Projects do not stand in each other; leave parent_id out.")
    values = {**given(fields, "parent_id", "is_domain"), "domain_id": domain_id}
    project = await controller_of(request).directory.create_project(values)
    return JSONResponse({"project": project_view(request, project)}, 201)


@router.get("/projects/{project_id}")
async def show_project(request: Request, project_id: str) -> Response:
    """Show a project that the caller has a role on; for administrators any."""
    controller = controller_of(request)
    if is_allowed(request, "identity:get_any_project"):
        project = await controller.directory.show(Project, project_id)
        return JSONResponse({"project": project_view(request, project)})
    for project in await controller.identity.projects(caller_of(request)):
        if project.id == project_id:
            return JSONResponse({"project": project_view(request, project)})
    raise missing("project", project_id)


@router.patch("/projects/{project_id}")
async def change_project(request: Request, project_id: str, body: ProjectBody) -> Response:
    """Change a project. Being disabled ends all tokens for it; its disks and their replication go on."""
    values = given(body.project, "parent_id", "is_domain")
    project = await controller_of(request).directory.change_project(project_id, values)
    return JSONResponse({"project": project_view(request, project)})


@router.delete("/projects/{project_id}", status_code=204)
async def delete_project(request: Request, project_id: str) -> Response:
    """Delete a project that has no volumes, pairs and groups any more."""
    await controller_of(request).directory.delete_project(project_id)
    return Response(None, 204)


@router.get("/domains")
async def list_domains(request: Request, name: str | None = None, enabled: Flag = None) -> Response:
    """List the domains."""
    found = await controller_of(request).directory.listed(Domain, name=name, enabled=flag(enabled))
    return JSONResponse({"domains": [domain_view(request, domain) for domain in found], "links": links(request)})


@router.get("/domains/{domain_id}")
async def show_domain(request: Request, domain_id: str) -> Response:
    """Show a domain."""
    domain = await controller_of(request).directory.show(Domain, domain_id)
    return JSONResponse({"domain": domain_view(request, domain)})
