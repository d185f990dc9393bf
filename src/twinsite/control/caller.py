"""Who makes a request, whichever identity service vouches for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twinsite.control.models import Token

ADMIN_ROLE, MEMBER_ROLE, READER_ROLE = "admin", "member", "reader"
BUILT_IN_ROLES = (ADMIN_ROLE, MEMBER_ROLE, READER_ROLE)
"""Roles that the rules are made of."""
_IMPLIED = {ADMIN_ROLE: (MEMBER_ROLE, READER_ROLE), MEMBER_ROLE: (READER_ROLE,)}
"""What a role brings along, as in every Keystone."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, what the token is good for, and the roles there. `token` is the stored one of the embedded identity."""

    user_id: str
    user_name: str
    user_domain_id: str
    project_id: str | None
    project_domain_id: str | None
    domain_id: str | None
    roles: list[str]
    token: Token | None = None

    def credentials(self) -> dict[str, Any]:
        """Return what the checks of rules may ask about."""
        return {
            "user_id": self.user_id,
            "user_domain_id": self.user_domain_id,
            "project_id": self.project_id,
            "project_domain_id": self.project_domain_id,
            "domain_id": self.domain_id,
            "roles": self.roles,
        }


def with_implied(roles: Iterable[str]) -> list[str]:
    """Return roles with those that they imply, sorted."""
    given = set(roles)
    return sorted(given.union(*(_IMPLIED.get(role, ()) for role in given)))
