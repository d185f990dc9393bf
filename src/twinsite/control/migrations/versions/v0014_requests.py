"""Groups and volumes know the request that changed them last, so that nodes and workers can name it in their logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    for table in ("replication_groups", "volumes"):
        op.add_column(table, sa.Column("request_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Take the migration back."""
    for table in ("replication_groups", "volumes"):
        op.drop_column(table, "request_id")
