"""A row that was restored from a backup says what other histories of it have reached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COLUMNS = ("reached_term", "reached_version")


def upgrade() -> None:
    """Apply the migration."""
    for name in _COLUMNS:
        op.add_column("arbiter_rows", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take the migration back."""
    for name in _COLUMNS:
        op.drop_column("arbiter_rows", name)
