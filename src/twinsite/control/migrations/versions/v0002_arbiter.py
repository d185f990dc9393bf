"""The arbiter's rows, and until when a switchover may last.

Groups that exist get a row that promises nothing: their secondary counts as stale until their primary reports it.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "arbiter_rows",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("primary_site", sa.String(length=255), nullable=False),
        sa.Column("secondary", sa.String(length=32), nullable=False),
        sa.Column("stale_since", sa.Double(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["replication_groups.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["primary_site"], ["sites.name"]),
        sa.PrimaryKeyConstraint("group_id"),
    )
    op.execute(
        sa.text(
            "INSERT INTO arbiter_rows (group_id, term, primary_site, secondary, stale_since, version) "
            "SELECT id, term, priority_station, 'stale', :now, 1 FROM replication_groups"
        ).bindparams(now=time.time())
    )
    # Not in batch mode: that would make the table anew, and the rows that refer to it forbid that.
    op.drop_column("replication_groups", "term")
    op.add_column("replication_groups", sa.Column("move_deadline", sa.DateTime(), nullable=True))


def downgrade() -> None:
    """Take the migration back."""
    op.drop_column("replication_groups", "move_deadline")
    op.add_column("replication_groups", sa.Column("term", sa.BigInteger(), nullable=False, server_default="1"))
    op.execute(
        "UPDATE replication_groups SET term = "
        "(SELECT arbiter_rows.term FROM arbiter_rows WHERE arbiter_rows.group_id = replication_groups.id)"
    )
    op.drop_table("arbiter_rows")
