"""What Cinder, EVS and Keystone document and Twinsite does not do: a 501 that says so, and no 404 like a wrong URL's.

The tables have what is documented in one of the three; what is documented nowhere is a 404. A path that is offered
answers 405 to those of its methods that are not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers, cloud_answers
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, TokenRoute
from twinsite.control.refusals import not_implemented


class UnofferedRoute(ProjectRoute):
    """A call that nobody is offered: it takes a token to learn that, and no role."""

    needs_rule = False
    checks_body = False


class UnofferedIdentityRoute(TokenRoute):
    """The same without a project in the path."""

    needs_rule = False
    checks_body = False


router = APIRouter(prefix="/{project_id}", tags=["Volume types, zones, limits"], route_class=ProjectRoute)
unoffered_router = APIRouter(route_class=UnofferedRoute)
unoffered_identity_router = APIRouter(prefix="/identity/v3", route_class=UnofferedIdentityRoute)

UNOFFERED_VOLUME_ACTIONS = frozenset(
    {
        "os-attach",
        "os-begin_detaching",
        "os-detach",
        "os-extend_volume_completion",
        "os-force_delete",
        "os-force_detach",
        "os-migrate_volume",
        "os-migrate_volume_completion",
        "os-reimage",
        "os-reserve",
        "os-reset_status",
        "os-retype",
        "os-roll_detaching",
        "os-set_bootable",
        "os-set_image_metadata",
        "os-show_image_metadata",
        "os-unmanage",
        "os-unreserve",
        "os-unset_image_metadata",
        "os-update_readonly_flag",
        "os-volume_upload_image",
        "revert",
    }
)
"""Actions of Cinder's and the EVS API's volumes that have no meaning here, or none yet."""

UNOFFERED_RESOURCES = (
    "attachments",
    "backups",
    "capabilities",
    "cgsnapshots",
    "cloudsnapshots",
    "cloudvolumes",
    "clusters",
    "consistencygroups",
    "default-types",
    "encryption",
    "group_snapshots",
    "group_types",
    "groups",
    "jobs",
    "manageable_snapshots",
    "manageable_volumes",
    "messages",
    "os-hosts",
    "os-quota-class-sets",
    "os-services",
    "os-snapshot-manage",
    "os-vendor-snapshots",
    "os-vendor-tags/backups",
    "os-vendor-tags/snapshots",
    "os-volume-manage",
    "os-volume-transfer",
    "qos-specs",
    "recycle-bin-volumes",
    "resource_filters",
    "scheduler-stats",
    "snapshots",
    "types/{type_id}/encryption",
    "types/{type_id}/extra_specs",
    "types/{type_id}/os-volume-type-access",
    "volume-transfers",
    "volumes/{volume_id}/encryption",
    "workers",
)
"""Resources of projects, in Cinder and the EVS API, that are not offered at all, with all that stands below them."""

UNOFFERED_PATHS = (
    "os-vendor-volumes",
    "os-vendor-volumes/detail",
    "os-vendor-volumes/{volume_id}",
    "os-vendor-volumes/{volume_id}/action",
    "types/{type_id}/action",
)
"""Paths below which something is offered: of the EVS API's second family of volume calls that is a volume's tags."""

UNOFFERED_VERSIONS: Mapping[str, Sequence[str]] = {
    "v1": ("jobs",),
    "v2.1": ("cloudvolumes",),
    "v5": ("cloudvolumes", "snapshots"),
}
"""Resources of projects that the EVS API has under versions of which nothing is offered."""

UNOFFERED_IDENTITY_RESOURCES = (
    "OS-ENDPOINT-POLICY",
    "OS-EP-FILTER",
    "OS-FEDERATION",
    "OS-INHERIT",
    "OS-OAUTH1",
    "OS-OAUTH2",
    "OS-REVOKE",
    "OS-SIMPLE-CERT",
    "OS-TRUST",
    "auth/OS-FEDERATION",
    "auth/system",
    "auth/tokens/OS-PKI",
    "credentials",
    "domains/config",
    "domains/{domain_id}/config",
    "domains/{domain_id}/groups",
    "ec2tokens",
    "endpoints",
    "groups",
    "limits",
    "policies",
    "projects/{project_id}/groups",
    "projects/{project_id}/tags",
    "regions",
    "registered_limits",
    "role_inferences",
    "roles/{role_id}/implies",
    "s3tokens",
    "services",
    "system",
    "users/{user_id}/OS-OAUTH1",
    "users/{user_id}/access_rules",
    "users/{user_id}/application_credentials",
    "users/{user_id}/credentials",
    "users/{user_id}/groups",
)
"""Resources of Keystone that are not offered at all, with all that stands below them."""

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@router.get(
    "/extensions",
    dependencies=TOKEN_DOCUMENTATION,
    responses={200: {"model": cloud_answers.ExtensionList}, **answers.ERRORS},
)
async def list_extensions(request: Request, project_id: str) -> Response:
    """List Cinder's extensions: none is told apart from the rest."""
    return JSONResponse({"extensions": []})


def _refusal_of(resource: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_request: Request) -> Response:
        raise not_implemented(f"{resource} are not offered here; see docs/api.md for what is, and why.")

    return refuse


def _refuse_all(to: APIRouter, prefix: str, resources: Sequence[str], *, with_rest: bool = True) -> None:
    for resource in resources:
        path = f"{prefix}/{resource}"
        for each in (path, f"{path}/{{rest:path}}") if with_rest else (path,):
            to.add_api_route(each, _refusal_of(resource), methods=_METHODS, include_in_schema=False)


for _version in ("v2", "v3"):
    _refuse_all(unoffered_router, f"/{_version}/{{project_id}}", UNOFFERED_RESOURCES)
    _refuse_all(unoffered_router, f"/{_version}/{{project_id}}", UNOFFERED_PATHS, with_rest=False)
for _version, _resources in UNOFFERED_VERSIONS.items():
    _refuse_all(unoffered_router, f"/{_version}/{{project_id}}", _resources)
_refuse_all(unoffered_identity_router, "", UNOFFERED_IDENTITY_RESOURCES)
