"""Users, projects and tokens that tests need, put straight into the database: no password is hashed for them."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import uuid

from tests.support.controller import Site
from twinsite.control.clock import utc_now
from twinsite.control.models import Assignment, Project, Role, Token, User
from twinsite.control.repository import directory


async def make_project(site: Site, name: str) -> str:
    """Make a project; return its id."""
    project_id = uuid.uuid4().hex
    async with site.controller.context.database.write() as session:
        session.add(Project(id=project_id, name=name, domain_id="default"))
    return project_id


async def make_token(site: Site, role: str, project_id: str | None = None) -> str:
    """Make a user with a role on a project, the admin's by default; return a token of theirs for it."""
    project_id = project_id or site.project_id
    user_id, text = uuid.uuid4().hex, secrets.token_urlsafe(32)
    now = utc_now()
    async with site.controller.context.database.write() as session:
        session.add(User(id=user_id, name=f"{role}-{user_id}", domain_id="default", password_hash=""))
        await session.flush()
        found = await directory.named(session, Role, role, None)
        if found is None:
            found = Role(id=uuid.uuid4().hex, name=role)
            session.add(found)
        session.add(Assignment(id=str(uuid.uuid4()), user_id=user_id, project_id=project_id, role=found))
        session.add(
            Token(
                digest=hashlib.sha256(text.encode()).hexdigest(),
                user_id=user_id,
                project_id=project_id,
                methods=["password"],
                audit_id="",
                issued_at=now,
                expires_at=now + datetime.timedelta(hours=1),
            )
        )
    return text
