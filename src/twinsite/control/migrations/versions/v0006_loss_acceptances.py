"""How often an operator has accepted that a group's primary lacks acknowledged writes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("replication_groups", sa.Column("loss_acceptances", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take the migration back."""
    op.drop_column("replication_groups", "loss_acceptances")
