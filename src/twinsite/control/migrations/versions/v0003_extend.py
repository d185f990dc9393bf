"""Extensions of disks: how far each disk has come, and each group's last one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("volumes", sa.Column("target_gib", sa.Integer(), nullable=True))
    op.add_column("volumes", sa.Column("is_grown", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("volumes", sa.Column("store_bytes", sa.BigInteger(), nullable=True))
    op.create_table(
        "group_extends",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("spec_version", sa.BigInteger(), nullable=False),
        sa.Column("room_deadline", sa.DateTime(), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["replication_groups.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id"),
    )


def downgrade() -> None:
    """Take the migration back."""
    op.drop_table("group_extends")
    op.drop_column("volumes", "store_bytes")
    op.drop_column("volumes", "is_grown")
    op.drop_column("volumes", "target_gib")
