"""Quotas, in the shape of Cinder's os-quota-sets, with our two resources beside Cinder's."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from twinsite.api import answers
from twinsite.api.filters import Flag, flag_of
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of, is_allowed
from twinsite.api.schemas import Body
from twinsite.control.lifecycle.quotas import LIMIT_MAX, UNLIMITED, Quota, Resource
from twinsite.control.refusals import bad_request, not_found

router = APIRouter(
    prefix="/{project_id}/os-quota-sets", tags=["Quotas"], route_class=ProjectRoute, dependencies=TOKEN_DOCUMENTATION
)

NOT_OFFERED = ("snapshots", "backups", "backup_gigabytes", "groups")
"""What Cinder's clients ask for and this installation does not have: the limit is 0."""
_NO_RESOURCE = ("id", "tenant_id", "project_id", "force", "skip_validation")
"""What clients send along that is no limit."""


def _close(schema: JsonDict) -> None:
    """Say in the document what else may be in it, which is checked below."""
    properties = schema["properties"]
    assert isinstance(properties, dict)
    properties.update({name: {"type": ["null", "integer"], "enum": [None, 0]} for name in NOT_OFFERED})
    properties.update({name: {"description": "Ignored."} for name in _NO_RESOURCE})
    schema["additionalProperties"] = False


class QuotaFields(Body):
    """New limits, -1 for unlimited; what is left out stays."""

    model_config = ConfigDict(strict=True, extra="allow", json_schema_extra=_close)

    volumes: int | None = Field(None, ge=UNLIMITED, le=LIMIT_MAX, examples=[100])
    gigabytes: int | None = Field(None, ge=UNLIMITED, le=LIMIT_MAX, examples=[10000])
    per_volume_gigabytes: int | None = Field(None, ge=UNLIMITED, le=LIMIT_MAX)
    replications: int | None = Field(None, ge=UNLIMITED, le=LIMIT_MAX)
    replication_consistency_groups: int | None = Field(None, ge=UNLIMITED, le=LIMIT_MAX)


class QuotaUpdate(Body):
    """Body of PUT /os-quota-sets/{id}."""

    quota_set: QuotaFields


def _limits_view(limits: dict[Resource, int], target_id: str) -> dict[str, Any]:
    return {"id": target_id, **{resource.value: limit for resource, limit in limits.items()}, **_none_of(0)}


def _usage_view(quotas: dict[Resource, Quota], target_id: str) -> dict[str, Any]:
    figures = {
        resource.value: {"limit": quota.limit, "in_use": quota.in_use, "reserved": 0}
        for resource, quota in quotas.items()
    }
    return {"id": target_id, **figures, **_none_of({"limit": 0, "in_use": 0, "reserved": 0})}


def _none_of(value: Any) -> dict[str, Any]:
    return dict.fromkeys(NOT_OFFERED, value)


async def _check_target(request: Request, project_id: str, target_id: str) -> None:
    """Refuse (404) projects that do not exist, or that the caller may not know of."""
    may_see = target_id == project_id or is_allowed(request, "quotas:get_any")
    if not may_see or not await controller_of(request).quotas.knows_project(target_id):
        raise not_found("quota of the project", target_id)


@router.get("/{target_id}", responses=answers.ERRORS_OF_ADMIN_ONE)
async def show_quota(request: Request, project_id: str, target_id: str, usage: Flag = None) -> Response:
    """Show a project's quota, with what it uses when `usage` is True."""
    with_usage = flag_of("usage", usage)
    await _check_target(request, project_id, target_id)
    quotas = await controller_of(request).quotas.show(target_id)
    if with_usage:
        return JSONResponse({"quota_set": _usage_view(quotas, target_id)})
    limits = {resource: quota.limit for resource, quota in quotas.items()}
    return JSONResponse({"quota_set": _limits_view(limits, target_id)})


@router.get("/{target_id}/defaults", responses=answers.ERRORS_OF_ADMIN_ONE)
async def show_default_quota(request: Request, project_id: str, target_id: str) -> Response:
    """Show the quota of a project that has none of its own."""
    await _check_target(request, project_id, target_id)
    return JSONResponse({"quota_set": _limits_view(controller_of(request).quotas.defaults(), target_id)})


@router.put("/{target_id}", responses=answers.ERRORS_OF_ADMIN_ONE)
async def change_quota(request: Request, project_id: str, target_id: str, body: QuotaUpdate) -> Response:
    """Change a project's quota. A limit below what is in use takes nothing away; it only admits nothing more."""
    await _check_target(request, project_id, target_id)
    fields = body.quota_set
    unknown = sorted(set(fields.model_extra or {}) - {*_NO_RESOURCE, *NOT_OFFERED})
    if unknown:
        known = ", ".join(resource.value for resource in Resource)
        raise bad_request(f"There is no quota of {unknown[0][:80]!r}; there are {known}.")
    for name in NOT_OFFERED:
        limit = (fields.model_extra or {}).get(name)
        if limit is not None and (isinstance(limit, bool) or limit != 0):
            raise bad_request(f"The quota of {name} is 0 and stays so: they are not offered here.")
    wanted = {resource: getattr(fields, resource.value) for resource in Resource}
    quotas = controller_of(request).quotas
    await quotas.change(target_id, {resource: limit for resource, limit in wanted.items() if limit is not None})
    limits = {resource: quota.limit for resource, quota in (await quotas.show(target_id)).items()}
    return JSONResponse({"quota_set": _limits_view(limits, target_id)})


@router.delete("/{target_id}", responses=answers.ERRORS_OF_ADMIN_ONE)
async def reset_quota(request: Request, project_id: str, target_id: str) -> Response:
    """Give a project the default quota again."""
    await _check_target(request, project_id, target_id)
    await controller_of(request).quotas.reset(target_id)
    return Response(status_code=200)
