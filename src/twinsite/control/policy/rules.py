"""The named rules: one for each operation of the API, with its default and what it is for.

A route finds its rule by its method and path, so a call that this table does not name is refused to everybody, and a
test says so. An action has a rule of its own, found by the one key of its body. oslo.policy evaluates them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

from oslo_policy.policy import DocumentedRuleDefault, RuleDefault
from oslo_policy.policy import Operation as DocumentedOperation

ADMIN = "rule:admin_required"
MEMBER = "rule:member_required"
READER = "rule:reader_required"
ANYONE = "@"
OWNER = "rule:admin_required or user_id:%(user_id)s"

_PROJECT = "/v2/{project_id}"
_PAIRS = f"{_PROJECT}/os-vendor-replications"
_GROUPS = f"{_PROJECT}/os-vendor-replication-consistency-groups"
_GROUP = f"{_GROUPS}/{{replication_consistency_group_id}}"
_SITES = f"{_PROJECT}/os-vendor-sites"
_IDENTITY = "/identity/v3"
_VERSION = re.compile(r"^/v[23](?=/)")

Operation = tuple[str, str]
"""A method and a path, the names of its parameters in braces; for an action its key stands after a blank."""


def _rule(name: str, check: str, description: str, *operations: Operation) -> RuleDefault:
    if not operations:
        return RuleDefault(name, check, description)
    listed: list[DocumentedOperation] = [{"method": method, "path": path} for method, path in operations]
    return DocumentedRuleDefault(name, check, description, listed)


def operations_of(rule: RuleDefault) -> list[Operation]:
    """Return the operations that a rule is for."""
    listed = rule.operations if isinstance(rule, DocumentedRuleDefault) else []
    return [(str(operation["method"]), str(operation["path"])) for operation in listed]


BASE_RULES: tuple[RuleDefault, ...] = (
    RuleDefault("admin_required", "role:admin", "Administrators. They are that of the whole installation."),
    RuleDefault("member_required", "role:member or rule:admin_required", "Whoever may change what a project has."),
    RuleDefault("reader_required", "role:reader or rule:member_required", "Whoever may look at what a project has."),
)
"""What the rules below are made of."""

_VOLUME_RULES = (
    _rule("volumes:create", MEMBER, "Create a volume.", ("POST", f"{_PROJECT}/volumes")),
    _rule(
        "volumes:get",
        READER,
        "List and show volumes.",
        ("GET", f"{_PROJECT}/volumes"),
        ("GET", f"{_PROJECT}/volumes/detail"),
        ("GET", f"{_PROJECT}/volumes/summary"),
        ("GET", f"{_PROJECT}/volumes/{{volume_id}}"),
    ),
    _rule(
        "volumes:update",
        MEMBER,
        "Change a volume's name, description or metadata.",
        ("PUT", f"{_PROJECT}/volumes/{{volume_id}}"),
    ),
    _rule("volumes:delete", MEMBER, "Delete a volume.", ("DELETE", f"{_PROJECT}/volumes/{{volume_id}}")),
    _rule(
        "volumes:connect",
        MEMBER,
        "Connect a host to a volume, and learn where it is served.",
        ("POST", f"{_PROJECT}/volumes/{{volume_id}}/action os-initialize_connection"),
    ),
    _rule(
        "volumes:disconnect",
        MEMBER,
        "Disconnect a host from a volume.",
        ("POST", f"{_PROJECT}/volumes/{{volume_id}}/action os-terminate_connection"),
    ),
    _rule(
        "volumes:extend",
        MEMBER,
        "Extend a volume outside any pair.",
        ("POST", f"{_PROJECT}/volumes/{{volume_id}}/action os-extend"),
    ),
)
_METADATA = f"{_PROJECT}/volumes/{{volume_id}}/metadata"
_TAGS = f"{_PROJECT}/os-vendor-tags/volumes"
_LABEL_RULES = (
    _rule(
        "volume_metadata:get",
        READER,
        "Show a volume's metadata.",
        ("GET", _METADATA),
        ("GET", f"{_METADATA}/{{key}}"),
    ),
    _rule(
        "volume_metadata:update",
        MEMBER,
        "Change a volume's metadata entry by entry.",
        ("POST", _METADATA),
        ("PUT", _METADATA),
        ("PUT", f"{_METADATA}/{{key}}"),
        ("DELETE", f"{_METADATA}/{{key}}"),
    ),
    _rule(
        "volume_tags:get",
        READER,
        "Show the tags of volumes, and find volumes by their tags.",
        ("GET", _TAGS),
        ("GET", f"{_TAGS}/resource_instances"),
        ("GET", f"{_TAGS}/{{volume_id}}"),
        ("GET", f"{_TAGS}/{{volume_id}}/{{key}}"),
        ("GET", f"{_PROJECT}/os-vendor-volumes/{{volume_id}}/tags"),
    ),
    _rule(
        "volume_tags:update",
        MEMBER,
        "Change the tags of a volume.",
        ("POST", f"{_TAGS}/{{volume_id}}"),
        ("PUT", f"{_PROJECT}/os-vendor-volumes/{{volume_id}}/tags"),
        ("PUT", f"{_TAGS}/{{volume_id}}"),
        ("POST", f"{_TAGS}/{{volume_id}}/action os-delete_tags"),
        ("PUT", f"{_TAGS}/{{volume_id}}/{{key}}"),
        ("DELETE", f"{_TAGS}/{{volume_id}}/{{key}}"),
    ),
)
_OFFER_RULES = (
    _rule("extensions:get", READER, "List Cinder's extensions.", ("GET", f"{_PROJECT}/extensions")),
    _rule(
        "volume_types:get",
        READER,
        "List and show volume types.",
        ("GET", f"{_PROJECT}/types"),
        ("GET", f"{_PROJECT}/types/{{type_id}}"),
    ),
    _rule("availability_zones:get", READER, "List availability zones.", ("GET", f"{_PROJECT}/os-availability-zone")),
    _rule("limits:get", READER, "Show what the project may use and what it uses.", ("GET", f"{_PROJECT}/limits")),
    _rule(
        "quotas:get",
        READER,
        "Show the quotas of a project: one's own, or as an administrator any.",
        ("GET", f"{_PROJECT}/os-quota-sets/{{target_id}}"),
        ("GET", f"{_PROJECT}/os-quota-sets/{{target_id}}/defaults"),
    ),
    _rule("quotas:get_any", ADMIN, "See the quotas of other projects too."),
    _rule("quotas:update", ADMIN, "Change a project's quotas.", ("PUT", f"{_PROJECT}/os-quota-sets/{{target_id}}")),
    _rule(
        "quotas:delete",
        ADMIN,
        "Give a project the default quotas again.",
        ("DELETE", f"{_PROJECT}/os-quota-sets/{{target_id}}"),
    ),
)
_PAIR_RULES = (
    _rule("replications:create", MEMBER, "Pair two volumes.", ("POST", _PAIRS)),
    _rule("replications:get", READER, "List and show pairs.", ("GET", _PAIRS), ("GET", f"{_PAIRS}/{{replication_id}}")),
    _rule("replications:delete", MEMBER, "Take a pair apart.", ("DELETE", f"{_PAIRS}/{{replication_id}}")),
)


def _group_action(name: str, key: str, description: str) -> RuleDefault:
    operation = ("POST", f"{_GROUP}/action {key}")
    return _rule(f"replication_consistency_groups:{name}", MEMBER, description, operation)


_GROUP_RULES = (
    _rule("replication_consistency_groups:create", MEMBER, "Group pairs.", ("POST", _GROUPS)),
    _rule("replication_consistency_groups:get", READER, "List and show groups.", ("GET", _GROUPS), ("GET", _GROUP)),
    _rule(
        "replication_consistency_groups:get_events",
        READER,
        "List what was done to a group, and what happened to it.",
        ("GET", f"{_GROUP}/events"),
    ),
    _rule(
        "replication_consistency_groups:get_plan",
        READER,
        "Ask what an action on a group would do, without doing it.",
        ("GET", f"{_GROUP}/plan"),
    ),
    _rule(
        "replication_consistency_groups:get_history",
        READER,
        "Show what groups do, and did in the last hour.",
        ("GET", f"{_GROUP}/history"),
        ("GET", f"{_PROJECT}/os-vendor-traffic"),
    ),
    _rule("replication_consistency_groups:update", MEMBER, "Rename a group, or change its pairs.", ("PUT", _GROUP)),
    _rule("replication_consistency_groups:delete", MEMBER, "Delete a group.", ("DELETE", _GROUP)),
    _group_action("sync", "os-sync-replication-consistency-group", "Synchronize a group."),
    _group_action("stop", "os-stop-replication-consistency-group", "Pause a group."),
    _group_action("failover", "os-failover-replication-consistency-group", "Fail a group over."),
    _group_action("reverse", "os-reverse-replication-consistency-group", "Swap the sites of a group."),
    _group_action("reprotect", "os-reprotect-replication-consistency-group", "Protect a failed-over group again."),
    _group_action("extend", "os-extend-replication-volumes", "Extend the disks of a group's pairs."),
    _rule(
        "replication_consistency_groups:force",
        MEMBER,
        "Accept the loss of acknowledged writes: failover and stop with force. Needed on top of the action's own rule.",
    ),
)
_AUDIT_RULES = (
    _rule(
        "audit_records:get",
        READER,
        "List who asked for what change with the project's tokens.",
        ("GET", f"{_PROJECT}/os-vendor-audit-records"),
    ),
    _rule("audit_records:get_any", ADMIN, "List those of all projects, and of tokens without a project."),
)
_OVERVIEW_RULES = (
    _rule(
        "overview:get",
        READER,
        "See how the sites and the project's groups are, at one look. Pools only with sites:get.",
        ("GET", f"{_PROJECT}/os-vendor-overview"),
    ),
)
_WEBHOOKS = f"{_PROJECT}/os-vendor-webhooks"
_WEBHOOK = f"{_WEBHOOKS}/{{webhook_id}}"
_EVENT_RULES = (
    _rule(
        "events:get",
        READER,
        "List or follow the events of all groups of a project.",
        ("GET", f"{_PROJECT}/os-vendor-events"),
    ),
    _rule("webhooks:create", MEMBER, "Have a project's events sent somewhere.", ("POST", _WEBHOOKS)),
    _rule(
        "webhooks:get",
        READER,
        "List and show webhooks, and what was sent to them.",
        ("GET", _WEBHOOKS),
        ("GET", _WEBHOOK),
        ("GET", f"{_WEBHOOK}/deliveries"),
    ),
    _rule("webhooks:delete", MEMBER, "Delete a webhook.", ("DELETE", _WEBHOOK)),
    _rule("webhooks:test", MEMBER, "Send a test to a webhook.", ("POST", f"{_WEBHOOK}/action os-test-webhook")),
)
_SITE_RULES = (
    _rule("sites:get", ADMIN, "List sites with their nodes and pools.", ("GET", _SITES)),
    _rule(
        "sites:forget",
        ADMIN,
        "Give up a site that is gone for good.",
        ("POST", f"{_SITES}/{{site_name}}/action os-forget-site"),
    ),
    _rule(
        "sites:restore",
        ADMIN,
        "Let a lost site be used again.",
        ("POST", f"{_SITES}/{{site_name}}/action os-restore-site"),
    ),
)


def _managed(kind: str, collection: str) -> tuple[RuleDefault, ...]:
    """Return the rules of what administrators do with users, projects and roles."""
    one = f"{_IDENTITY}/{collection}/{{{kind}_id}}"
    return (
        _rule(f"identity:create_{kind}", ADMIN, f"Make a {kind}.", ("POST", f"{_IDENTITY}/{collection}")),
        _rule(f"identity:update_{kind}", ADMIN, f"Change a {kind}.", ("PATCH", one)),
        _rule(f"identity:delete_{kind}", ADMIN, f"Delete a {kind}.", ("DELETE", one)),
    )


def _grants(method: str, rest: str) -> tuple[Operation, ...]:
    """Return a call on a user's roles on a project, and the same on a domain."""
    return tuple(
        (method, f"{_IDENTITY}/{on}/{{target_id}}/users/{{user_id}}/roles{rest}") for on in ("projects", "domains")
    )


_IDENTITY_RULES = (
    _rule(
        "identity:get_own_scopes",
        ANYONE,
        "List the projects and domains that one may log in to, and the service catalogue.",
        ("GET", f"{_IDENTITY}/auth/projects"),
        ("GET", f"{_IDENTITY}/auth/domains"),
        ("GET", f"{_IDENTITY}/auth/catalog"),
    ),
    _rule(
        "identity:use_token",
        ANYONE,
        "Show, check and revoke a token of one's own.",
        ("GET", f"{_IDENTITY}/auth/tokens"),
        ("HEAD", f"{_IDENTITY}/auth/tokens"),
        ("DELETE", f"{_IDENTITY}/auth/tokens"),
    ),
    _rule("identity:use_any_token", ADMIN, "Show, check and revoke the tokens of others too."),
    _rule(
        "identity:get_own_projects",
        ANYONE,
        "List and show the projects that one has a role on.",
        ("GET", f"{_IDENTITY}/projects"),
        ("GET", f"{_IDENTITY}/projects/{{project_id}}"),
    ),
    _rule("identity:get_any_project", ADMIN, "List and show all projects."),
    _rule("identity:list_users", ADMIN, "List users.", ("GET", f"{_IDENTITY}/users")),
    _rule("identity:get_user", OWNER, "Show a user; oneself, by default.", ("GET", f"{_IDENTITY}/users/{{user_id}}")),
    _rule(
        "identity:list_user_projects",
        OWNER,
        "List the projects that a user has a role on; one's own, by default.",
        ("GET", f"{_IDENTITY}/users/{{user_id}}/projects"),
    ),
    _rule(
        "identity:change_password",
        OWNER,
        "Change a password whose present value one knows.",
        ("POST", f"{_IDENTITY}/users/{{user_id}}/password"),
    ),
    *_managed("user", "users"),
    *_managed("project", "projects"),
    *_managed("role", "roles"),
    _rule("identity:list_roles", ADMIN, "List roles.", ("GET", f"{_IDENTITY}/roles")),
    _rule("identity:get_role", ADMIN, "Show a role.", ("GET", f"{_IDENTITY}/roles/{{role_id}}")),
    _rule("identity:list_domains", ADMIN, "List domains.", ("GET", f"{_IDENTITY}/domains")),
    _rule("identity:get_domain", ADMIN, "Show a domain.", ("GET", f"{_IDENTITY}/domains/{{domain_id}}")),
    _rule(
        "identity:list_role_assignments",
        ADMIN,
        "List who has which role where.",
        ("GET", f"{_IDENTITY}/role_assignments"),
        *_grants("GET", ""),
    ),
    _rule("identity:check_grant", ADMIN, "Ask whether a user has a role.", *_grants("HEAD", "/{role_id}")),
    _rule("identity:create_grant", ADMIN, "Give a user a role.", *_grants("PUT", "/{role_id}")),
    _rule("identity:revoke_grant", ADMIN, "Take a role from a user.", *_grants("DELETE", "/{role_id}")),
)

RULES: tuple[RuleDefault, ...] = (
    *_VOLUME_RULES,
    *_LABEL_RULES,
    *_OFFER_RULES,
    *_PAIR_RULES,
    *_GROUP_RULES,
    *_AUDIT_RULES,
    *_OVERVIEW_RULES,
    *_EVENT_RULES,
    *_SITE_RULES,
    *_IDENTITY_RULES,
)
"""Every operation's rule. Those without an operation are asked for by the code that needs them."""


def list_rules() -> list[RuleDefault]:
    """Return all rules; the entry point of oslo.policy's own tools."""
    return [*BASE_RULES, *RULES]


def canonical(path: str) -> str:
    """Return a path without the version of the volume interface: /v2 and /v3 offer the same."""
    return _VERSION.sub("", path)


def _index() -> Mapping[Operation, str]:
    names: dict[Operation, str] = {}
    for rule in RULES:
        for method, path in operations_of(rule):
            key = (method, canonical(path))
            assert key not in names, f"{key} has two rules"
            names[key] = rule.name
    return MappingProxyType(names)


_NAMES = _index()


def rule_of(method: str, path: str, action: str | None = None) -> str | None:
    """Return the name of an operation's rule, None when it has none. `path` is the template, of whatever version."""
    suffix = f" {action}" if action is not None else ""
    return _NAMES.get((method, f"{canonical(path)}{suffix}"))


@functools.cache
def rules_of_actions(path: str) -> Mapping[str, str]:
    """Return the rules of the actions that are offered at a path, by the key of the action's body."""
    prefix = f"{canonical(path)} "
    found = {key.removeprefix(prefix): name for (_, key), name in _NAMES.items() if key.startswith(prefix)}
    return MappingProxyType(found)
