"""Roles as objects of their own, and what clients may say of users, projects and domains."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BUILT_IN = ("admin", "member", "reader")


def upgrade() -> None:
    """Apply the migration."""
    for table in ("domains", "projects", "users"):
        op.add_column(table, sa.Column("description", sa.String(length=255), nullable=False, server_default=""))
        op.add_column(table, sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("users", sa.Column("email", sa.String(length=255), nullable=True))
    op.add_column("users", sa.Column("default_project_id", sa.String(length=64), nullable=True))
    op.create_index("ix_tokens_user", "tokens", ["user_id"])
    roles = op.create_table(
        "roles",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_roles_name"),
    )
    connection = op.get_bind()
    given = connection.execute(sa.text("SELECT DISTINCT role FROM assignments")).scalars().all()
    names = sorted({*BUILT_IN, *given})
    op.bulk_insert(roles, [{"id": uuid.uuid4().hex, "name": name, "description": ""} for name in names])
    op.add_column("assignments", sa.Column("role_id", sa.String(length=64), nullable=True))
    op.execute("UPDATE assignments SET role_id = (SELECT id FROM roles WHERE roles.name = assignments.role)")
    with op.batch_alter_table("assignments") as batch:
        batch.alter_column("role_id", existing_type=sa.String(length=64), nullable=False)
        batch.create_foreign_key("fk_assignments_role", "roles", ["role_id"], ["id"], ondelete="CASCADE")
        batch.create_unique_constraint("uq_assignments_project", ["user_id", "project_id", "role_id"])
        batch.create_unique_constraint("uq_assignments_domain", ["user_id", "domain_id", "role_id"])
        batch.drop_column("role")


def downgrade() -> None:
    """Take the migration back."""
    op.add_column("assignments", sa.Column("role", sa.String(length=255), nullable=True))
    op.execute("UPDATE assignments SET role = (SELECT name FROM roles WHERE roles.id = assignments.role_id)")
    with op.batch_alter_table("assignments") as batch:
        batch.alter_column("role", existing_type=sa.String(length=255), nullable=False)
        batch.drop_constraint("uq_assignments_domain", type_="unique")
        batch.drop_constraint("uq_assignments_project", type_="unique")
        batch.drop_constraint("fk_assignments_role", type_="foreignkey")
        batch.drop_column("role_id")
    op.drop_table("roles")
    op.drop_index("ix_tokens_user", "tokens")
    op.drop_column("users", "default_project_id")
    op.drop_column("users", "email")
    for table in ("domains", "projects", "users"):
        op.drop_column(table, "enabled")
        op.drop_column(table, "description")
