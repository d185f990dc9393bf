"""How a database that was restored from a backup is known, and what its arbiter rows have not been told yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("installation", sa.Column("arbiter_changes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("arbiter_rows", sa.Column("unheard", sa.String(1024), nullable=False, server_default=""))


def downgrade() -> None:
    """Take the migration back."""
    op.drop_column("arbiter_rows", "unheard")
    op.drop_column("installation", "arbiter_changes")
