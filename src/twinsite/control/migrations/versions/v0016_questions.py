"""A row that was restored from a backup says which question its sites have to answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("arbiter_rows", sa.Column("question", sa.String(36), nullable=False, server_default=""))
    op.execute("UPDATE arbiter_rows SET question = 'before they had names' WHERE unheard <> ''")


def downgrade() -> None:
    """Take the migration back."""
    op.drop_column("arbiter_rows", "question")
