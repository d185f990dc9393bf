"""Events outlive their groups, so each has its group's project and name itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_FOREIGN_KEY = "group_events_group_id_fkey"
_NAMES = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}
"""What PostgreSQL called the foreign key, which has no name in SQLite."""
_DELETION = sa.text("action = 'delete' AND result = 'done'")


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("group_events", sa.Column("project_id", sa.String(length=64), nullable=True))
    op.add_column("group_events", sa.Column("group_name", sa.String(length=255), nullable=True))
    for column, source in (("project_id", "project_id"), ("group_name", "name")):
        op.execute(
            f"UPDATE group_events SET {column} = "
            f"(SELECT {source} FROM replication_groups WHERE replication_groups.id = group_events.group_id)"
        )
    with op.batch_alter_table("group_events", naming_convention=_NAMES) as batch:
        batch.alter_column("project_id", existing_type=sa.String(length=64), nullable=False)
        batch.drop_constraint(_FOREIGN_KEY, type_="foreignkey")
    op.create_index("ix_group_events_project", "group_events", ["project_id", "position"])
    op.create_index(
        "ix_group_events_deletion",
        "group_events",
        ["project_id", "created_at"],
        sqlite_where=_DELETION,
        postgresql_where=_DELETION,
    )


def downgrade() -> None:
    """Take the migration back."""
    op.drop_index("ix_group_events_deletion", "group_events")
    op.drop_index("ix_group_events_project", "group_events")
    op.execute("DELETE FROM group_events WHERE group_id NOT IN (SELECT id FROM replication_groups)")
    with op.batch_alter_table("group_events") as batch:
        batch.create_foreign_key(_FOREIGN_KEY, "replication_groups", ["group_id"], ["id"], ondelete="CASCADE")
        batch.drop_column("group_name")
        batch.drop_column("project_id")
