"""Bodies whose parts depend on each other, for the OpenAPI document: actions, which have one key each, and logins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinsite.api import groups, sites, tags, volumes, webhooks
from twinsite.control.lifecycle.volumes import SIZE_GIB_MAX

Schema = dict[str, Any]

_EMPTY: Schema = {"type": ["null", "object"], "maxProperties": 0}
_SIZE: Schema = {"type": "integer", "minimum": 1, "maximum": SIZE_GIB_MAX, "description": "GiB."}
_ID: Schema = {"type": "string", "format": "uuid"}
_FORCED: Schema = {
    "type": ["null", "object"],
    "properties": {groups.FORCE: {"type": ["boolean", "null"], "description": "Accept the loss that is stated."}},
    "additionalProperties": False,
}
_STATION: Schema = {"type": ["null", "string"], "description": "The site that is to be primary: then safe to repeat."}
_FORCED_TO: Schema = {**_FORCED, "properties": {**_FORCED["properties"], groups.TARGET: _STATION}}
_TO: Schema = {"type": ["null", "object"], "properties": {groups.TARGET: _STATION}, "additionalProperties": False}
_NEW_SIZE: Schema = {
    "type": "object",
    "required": ["id", "new_size"],
    "properties": {"id": {**_ID, "description": "A pair of the group."}, "new_size": _SIZE},
    "additionalProperties": False,
}
_NEW_SIZES: Schema = {
    "type": "object",
    "required": ["replications"],
    "properties": {"replications": {"type": "array", "items": _NEW_SIZE, "minItems": 1, "maxItems": 256}},
    "additionalProperties": False,
}
_HOST: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_CONNECTOR: Schema = {
    "type": "object",
    "required": ["connector"],
    "properties": {"connector": {"type": "object", "required": ["host"], "properties": {"host": _HOST}}},
    "additionalProperties": False,
}
_ANY_CONNECTOR: Schema = {
    "type": ["null", "object"],
    "properties": {"connector": {"type": ["null", "object"], "properties": {"host": {"type": ["null", "string"]}}}},
    "additionalProperties": False,
}
_EXTEND: Schema = {
    "type": "object",
    "required": ["new_size"],
    "properties": {"new_size": _SIZE},
    "additionalProperties": False,
}
_TAGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


_NULL: Schema = {"type": "null"}
_TEXT_OR_NULL: Schema = {"type": ["null", "string"]}


def _with_text(*names: str) -> Schema:
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


_DOMAIN: Schema = {
    "type": "object",
    "anyOf": [_with_text("id"), _with_text("name")],
    "properties": {"id": _TEXT_OR_NULL, "name": _TEXT_OR_NULL},
}
_TARGET: Schema = {
    "type": "object",
    "anyOf": [
        _with_text("id"),
        {"required": ["name", "domain"], "properties": {"name": {"type": "string"}, "domain": _DOMAIN}},
    ],
    "properties": {"id": _TEXT_OR_NULL, "name": _TEXT_OR_NULL, "domain": {"anyOf": [_NULL, _DOMAIN]}},
}
_USER: Schema = {
    **_TARGET,
    "required": ["password"],
    "properties": {**_TARGET["properties"], "password": {"type": "string"}},
}
_PASSWORD: Schema = {"type": "object", "required": ["user"], "properties": {"user": _USER}}
_TOKEN: Schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}


_LOGIN: Schema = {
    "type": "object",
    "required": ["auth"],
    "properties": {
        "auth": {
            "type": "object",
            "required": ["identity"],
            "properties": {
                "identity": {
                    "anyOf": [
                        {
                            "title": method,
                            "type": "object",
                            "required": ["methods", method],
                            "properties": {"methods": {"const": [method]}, method: schema},
                        }
                        for method, schema in (("password", _PASSWORD), ("token", _TOKEN))
                    ]
                },
                "scope": {
                    "anyOf": [
                        {"type": "null"},
                        {"const": "unscoped"},
                        {
                            "type": "object",
                            "required": ["project"],
                            "properties": {"project": _TARGET, "domain": _NULL},
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "required": ["domain"],
                            "properties": {"domain": _DOMAIN, "project": _NULL},
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "properties": {"domain": _NULL, "project": _NULL},
                            "additionalProperties": False,
                        },
                    ]
                },
            },
        }
    },
}
_LOGIN_USER = {"name": "admin", "domain": {"name": "Default"}, "password": "secret"}
_LOGIN_SCOPE = {"project": {"name": "admin", "domain": {"name": "Default"}}}
LOGIN_EXAMPLES = {
    "password": {
        "summary": "With a password",
        "value": {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": _LOGIN_USER}},
                "scope": _LOGIN_SCOPE,
            }
        },
    },
    "token": {
        "summary": "Another scope for a token",
        "value": {"auth": {"identity": {"methods": ["token"], "token": {"id": "…"}}, "scope": _LOGIN_SCOPE}},
    },
}


def _one_of(values: Mapping[str, Schema]) -> Schema:
    """Return the schema of a body that has exactly one of these keys."""
    return {
        "oneOf": [
            {
                "title": action,
                "type": "object",
                "required": [action],
                "properties": {action: schema},
                "additionalProperties": False,
            }
            for action, schema in values.items()
        ]
    }


BODIES: Mapping[str, Schema] = {
    "log_in": {"schema": _LOGIN, "examples": LOGIN_EXAMPLES},
    "act_on_group": {
        "schema": _one_of(
            {
                groups.SYNC: _EMPTY,
                groups.STOP: _FORCED,
                groups.FAIL_OVER: _FORCED_TO,
                groups.REVERSE: _TO,
                groups.REPROTECT: _EMPTY,
                groups.EXTEND: {"oneOf": [_NEW_SIZES, _NEW_SIZE]},
            }
        ),
        "examples": groups.ACTION_EXAMPLES,
    },
    "act_on_volume": {
        "schema": _one_of(
            {
                "os-initialize_connection": _CONNECTOR,
                "os-terminate_connection": _ANY_CONNECTOR,
                "os-extend": _EXTEND,
            }
        ),
        "examples": volumes.ACTION_EXAMPLES,
    },
    "act_on_tags": {"schema": _one_of({tags.DELETE_TAGS: _TAGS}), "examples": tags.ACTION_EXAMPLES},
    "act_on_site": {
        "schema": _one_of({sites.FORGET: _EMPTY, sites.RESTORE: _EMPTY}),
        "examples": sites.ACTION_EXAMPLES,
    },
    "act_on_webhook": {"schema": _one_of({webhooks.TEST: _EMPTY}), "examples": webhooks.ACTION_EXAMPLES},
}
"""By the name of the operation: schema and examples."""
