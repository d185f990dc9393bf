"""Volumes are found by their status: each report asks for those that are being extended."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_index("ix_volumes_status", "volumes", ["status"])


def downgrade() -> None:
    """Take the migration back."""
    op.drop_index("ix_volumes_status", "volumes")
