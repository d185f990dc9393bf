"""What Cinder and EVS document and Twinsite does not do: a 501 that says so, and no 404 that looks like a wrong URL."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from twinsite.api import answers, cloud_answers
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute
from twinsite.control.refusals import not_implemented


class UnofferedRoute(ProjectRoute):
    """A call that nobody is offered: it takes a token to learn that, and no role."""

    needs_rule = False


router = APIRouter(prefix="/{project_id}", tags=["Volume types, zones, limits"], route_class=ProjectRoute)
unoffered_router = APIRouter(prefix="/{project_id}", route_class=UnofferedRoute)

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
    "cgsnapshots",
    "cloudsnapshots",
    "cloudvolumes",
    "consistencygroups",
    "encryption",
    "group_snapshots",
    "group_types",
    "groups",
    "messages",
    "os-hosts",
    "os-quota-class-sets",
    "os-services",
    "os-snapshot-manage",
    "os-vendor-snapshots",
    "os-volume-manage",
    "os-volume-transfer",
    "qos-specs",
    "scheduler-stats",
    "snapshots",
    "volume-transfers",
    "workers",
)
"""Resources of the two APIs that are not offered at all."""

UNOFFERED_VOLUME_PATHS = (
    "/os-vendor-volumes",
    "/os-vendor-volumes/{volume_id}",
    "/os-vendor-volumes/{volume_id}/action",
)
"""The EVS API's second family of volume calls. One path of it is offered, that of a volume's tags, and answers 405."""

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@router.get(
    "/extensions",
    dependencies=TOKEN_DOCUMENTATION,
    responses={200: {"model": cloud_answers.ExtensionList}, **answers.ERRORS},
)
async def list_extensions(request: Request, project_id: str) -> Response:
    """List Cinder's extensions: none is told apart from the rest."""
    return JSONResponse({"extensions": []})


async def _refuse(request: Request, project_id: str) -> Response:
    resource = request.url.path.split("/")[3]
    raise not_implemented(f"{resource} are not offered here; see docs/api.md for what is, and why.")


for _resource in UNOFFERED_RESOURCES:
    for _path in (f"/{_resource}", f"/{_resource}/{{rest:path}}"):
        unoffered_router.add_api_route(_path, _refuse, methods=_METHODS, include_in_schema=False)
for _path in UNOFFERED_VOLUME_PATHS:
    unoffered_router.add_api_route(_path, _refuse, methods=_METHODS, include_in_schema=False)
for _resource in ("snapshots", "backups"):
    unoffered_router.add_api_route(f"/os-vendor-tags/{_resource}", _refuse, methods=_METHODS, include_in_schema=False)
    unoffered_router.add_api_route(
        f"/os-vendor-tags/{_resource}/{{rest:path}}", _refuse, methods=_METHODS, include_in_schema=False
    )
