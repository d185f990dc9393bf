"""What nodes have to remove although nothing else is known of it any more, and sites that are given up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("sites", sa.Column("lost_at", sa.DateTime(), nullable=True))
    op.create_table(
        "tombstones",
        sa.Column("site", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.name"]),
        sa.PrimaryKeyConstraint("site", "kind", "object_id"),
    )


def downgrade() -> None:
    """Take the migration back."""
    op.drop_table("tombstones")
    op.drop_column("sites", "lost_at")
