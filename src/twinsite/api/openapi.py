"""The OpenAPI document, completed: what FastAPI cannot know of the interface, and what every operation has in common.

The document describes one installation: zones, volume types and sites are those of its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from twinsite.api.cloud_answers import IDENTITY_ANSWERS
from twinsite.api.errors import CODE_HEADER, IDENTITY_PREFIX, fault_key
from twinsite.api.openapi_bodies import BODIES
from twinsite.api.openapi_links import add_links
from twinsite.control.settings import ControllerSettings

Document = dict[str, Any]

ERROR_DESCRIPTIONS: Mapping[int, str] = {
    400: "Malformed, or not allowed in this state; the message says what to do.",
    401: "No token, or one that is unknown or has expired.",
    403: "The caller's roles do not allow it.",
    404: "No such object in this project.",
    405: "The method is not offered here; Allow has those that are.",
    406: "Accept leaves no room for JSON.",
    407: "Never answered by the controller: a proxy in between wants to know who asks.",
    408: "The request did not come within its time.",
    409: "A concurrent change won.",
    413: "The body is too long, a quota is used up, or there were too many log-ins that failed.",
    415: "The body is no JSON in UTF-8.",
    500: "An internal error, which the controller's log has under the request's id.",
    501: "Documented by Cinder or EVS, and not offered here.",
    502: "Never answered by the controller: a proxy in between could not use its answer.",
    503: "A site that is needed cannot be reached (37100043), or the controller's own disk fails.",
    504: "Never answered by the controller: a proxy in between had no answer in time.",
}
COMMON = frozenset({400, 405, 406, 500, 503})
WITH_TOKEN = frozenset({401, 403})
WITH_BODY = frozenset({408, 413, 415})
OF_PROXIES = frozenset({407, 502, 504})
"""What the controller itself never answers."""
PARTLY_OFFERED = frozenset({"create_volume", "act_on_volume", "log_in"})
"""Operations that answer 501 to some of what Cinder, EVS and Keystone document."""
OF_THE_REFERENCE = frozenset({404, 407, 408, 409, 501, 502, 504})
"""What the EVS API reference lists for each operation on pairs and groups, whether it can happen or not."""

_TEXT_HEADER = {"type": "string"}
_HEADERS: Mapping[str, Document] = {
    name: {"description": description, "schema": _TEXT_HEADER, "required": True}
    for name, description in (
        ("x-openstack-request-id", "Names the request in the controller's log."),
        (CODE_HEADER, "The code at the start of the message."),
        ("WWW-Authenticate", "Where to log in."),
        ("Allow", "The methods that are offered."),
        ("Retry-After", "Seconds."),
    )
}
_HEADERS_OF: Mapping[int, str] = {401: "WWW-Authenticate", 405: "Allow", 503: "Retry-After"}
"""What only the answers of one status have."""


def operation_id(route: APIRoute) -> str:
    """Return an operation's id: the name of its function, and the version where the same stands under both."""
    version, _, resource = route.path.removeprefix("/").partition("/{project_id}/")
    return f"{route.name}__{version}" if resource and not resource.startswith("os-vendor-") else route.name


def complete(document: Document, settings: ControllerSettings) -> Document:
    """Complete FastAPI's document in place, and return it."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError", "FaultAnswer"):
        schemas.pop(name, None)
    schemas.update(_fault_schemas())
    schemas.update(_identity_schemas())
    document["components"]["headers"] = dict(_HEADERS)
    document["components"]["responses"] = {
        f"{kind}{status}": _error(status, kind) for kind in ("Error", "IdentityError") for status in ERROR_DESCRIPTIONS
    }
    for path, method, operation in operations(document):
        _complete_answers(path, method, operation)
        _complete_parameters(path, operation, settings)
        body = BODIES.get(operation["operationId"].partition("__")[0])
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    _name_choices(schemas, settings)
    add_links(document)
    return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Walk over the operations of a document: path, method and content of each."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def fault_name(status: int) -> str:
    """Return the name of the schema of an error answer."""
    key = fault_key(status)
    return f"{key[0].upper()}{key[1:]}Answer"


def _fault_schemas() -> Document:
    """Return a schema for each kind of error: one key, named after the kind; of identity Keystone's key as well."""
    fault = {"$ref": "#/components/schemas/Fault"}
    titled = {"type": "object", "required": ["code", "message", "title"]}
    names = {"code": {"type": "integer"}, "message": {"type": "string"}, "title": {"type": "string"}}
    made: Document = {}
    for status in ERROR_DESCRIPTIONS:
        key = fault_key(status)
        for prefix, others in (("", {}), ("Identity", {"error": {**titled, "properties": names}})):
            made[f"{prefix}{fault_name(status)}"] = {
                "type": "object",
                "title": f"{prefix}{fault_name(status)}",
                "required": [key],
                "properties": {key: fault, **others},
                "additionalProperties": False,
            }
    return made


def _identity_schemas() -> Document:
    models = sorted(set(IDENTITY_ANSWERS.values()), key=lambda model: model.__name__)
    template = "#/components/schemas/{model}"
    _, made = models_json_schema([(model, "serialization") for model in models], ref_template=template)
    definitions: Document = made["$defs"]
    return definitions


def _complete_answers(path: str, method: str, operation: Document) -> None:
    answers = operation["responses"]
    declared = {int(status) for status in answers if int(status) in ERROR_DESCRIPTIONS}
    wanted = declared | COMMON
    if operation["operationId"].partition("__")[0] in PARTLY_OFFERED:
        wanted.add(501)
    if "security" in operation:
        wanted |= WITH_TOKEN
    if "requestBody" in operation:
        wanted |= WITH_BODY
    if "/os-vendor-replication" in path:
        wanted |= OF_THE_REFERENCE
    is_identity = path.startswith(IDENTITY_PREFIX)
    if is_identity and "security" in operation and method not in ("get", "head"):
        wanted.add(409)
    kind = "IdentityError" if is_identity else "Error"
    kept = {status: answer for status, answer in answers.items() if int(status) < 400}
    model = IDENTITY_ANSWERS.get(operation["operationId"])
    for answer in kept.values():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if model is not None:
            answer["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
        elif schema in (None, {}):
            answer.pop("content", None)
        if answer["description"] == "Successful Response":
            answer["description"] = "Done." if "content" in answer else "Done. No body."
        answer["headers"] = _headers("x-openstack-request-id")
    for status in sorted(wanted):
        # The answer to HEAD has no body.
        is_whole = method != "head"
        kept[str(status)] = {"$ref": f"#/components/responses/{kind}{status}"} if is_whole else _head(status)
    operation["responses"] = kept


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _head(status: int) -> Document:
    """Return an error without its body."""
    own = [_HEADERS_OF[status]] if status in _HEADERS_OF else []
    headers = _headers("x-openstack-request-id", CODE_HEADER, *own) if status not in OF_PROXIES else {}
    return {"description": ERROR_DESCRIPTIONS[status], "headers": headers}


def _error(status: int, kind: str) -> Document:
    prefix = "" if kind == "Error" else "Identity"
    schema = {"$ref": f"#/components/schemas/{prefix}{fault_name(status)}"}
    return {**_head(status), "content": {"application/json": {"schema": schema}}}


_UUID_PARAMETERS = frozenset({"volume_id", "replication_id", "replication_consistency_group_id", "webhook_id"})


def _complete_parameters(path: str, operation: Document, settings: ControllerSettings) -> None:
    if operation["operationId"] in ("show_token", "check_token", "revoke_token"):
        description = "The token that this is about."
        subject = {"name": "X-Subject-Token", "in": "header", "required": True, "description": description}
        operation.setdefault("parameters", []).append({**subject, "schema": {"type": "string", "minLength": 1}})
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        if parameter["in"] != "path":
            continue
        schema["minLength"] = 1
        if parameter["name"] in _UUID_PARAMETERS:
            schema["format"] = "uuid"
        if parameter["name"] == "site_name":
            schema["enum"] = list(settings.availability_zones)


_CHOICES = {
    "VolumeFields": ("availability_zone", "volume_type"),
    "PairFields": ("priority_station",),
    "GroupFields": ("priority_station",),
}


def _name_choices(schemas: Document, settings: ControllerSettings) -> None:
    """Say which zones and types there are. Types may be named by their ids too."""
    zones = list(settings.availability_zones)
    types = [*settings.volume_types, *map(settings.volume_type_id, settings.volume_types)]
    for model, fields in _CHOICES.items():
        for field in fields:
            schema = schemas[model]["properties"][field]
            choices = types if field == "volume_type" else zones
            for arm in schema.get("anyOf", [schema]):
                if arm.get("type") == "string":
                    arm["enum"] = choices
