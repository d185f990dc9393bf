"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    _create_accounts()
    _create_sites()
    _create_volumes()
    _create_groups()
    _create_pairs()


def _create_accounts() -> None:
    op.create_table(
        "domains",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"],
            ["domains.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain_id", "name", name="uq_projects_domain_name"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"],
            ["domains.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain_id", "name", name="uq_users_domain_name"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("domain_id", sa.String(length=64), nullable=True),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("domain_id", sa.String(length=64), nullable=True),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("audit_id", sa.String(length=64), nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_tokens_expires_at", "tokens", ["expires_at"], unique=False)


def _create_sites() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("seen_generation", sa.BigInteger(), nullable=False),
        sa.Column("node_name", sa.String(length=255), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(), nullable=True),
        sa.Column("pool_total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("pool_free_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "worker_reports",
        sa.Column("site", sa.String(length=255), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.name"],
        ),
        sa.PrimaryKeyConstraint("site", "worker_id"),
    )


def _create_volumes() -> None:
    op.create_table(
        "volumes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=255), nullable=False),
        sa.Column("volume_type", sa.String(length=255), nullable=False),
        sa.Column("multiattach", sa.Boolean(), nullable=False),
        sa.Column("user_metadata", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("node_state", sa.String(length=32), nullable=True),
        sa.Column("nbd_uris", sa.JSON(), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.String(), nullable=True),
        sa.Column("spec_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_volumes_project", "volumes", ["project_id", "created_at"], unique=False)
    op.create_index("ix_volumes_site", "volumes", ["site"], unique=False)
    op.create_table(
        "attachments",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("attached_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("volume_id", "host", name="uq_attachments_volume_host"),
    )


def _create_groups() -> None:
    op.create_table(
        "replication_groups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("priority_station", sa.String(length=255), nullable=False),
        sa.Column("secondary_station", sa.String(length=255), nullable=False),
        sa.Column("replication_model", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("replication", sa.String(length=32), nullable=False),
        sa.Column("replication_status", sa.String(length=32), nullable=False),
        sa.Column("synced_at", sa.DateTime(), nullable=True),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("stream_key", sa.String(length=64), nullable=False),
        sa.Column("peer_endpoint", sa.String(length=255), nullable=True),
        sa.Column("next_member_index", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("spec_version", sa.BigInteger(), nullable=False),
        sa.Column("wish_version", sa.BigInteger(), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["priority_station"],
            ["sites.name"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.ForeignKeyConstraint(
            ["secondary_station"],
            ["sites.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_groups_project", "replication_groups", ["project_id", "created_at"], unique=False)


def _create_pairs() -> None:
    op.create_table(
        "replication_pairs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("production_volume_id", sa.String(length=36), nullable=False),
        sa.Column("dr_volume_id", sa.String(length=36), nullable=False),
        sa.Column("production_first", sa.Boolean(), nullable=False),
        sa.Column("priority_station", sa.String(length=255), nullable=False),
        sa.Column("replication_model", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=True),
        sa.Column("member_index", sa.Integer(), nullable=True),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dr_volume_id"],
            ["volumes.id"],
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["replication_groups.id"],
        ),
        sa.ForeignKeyConstraint(
            ["priority_station"],
            ["sites.name"],
        ),
        sa.ForeignKeyConstraint(
            ["production_volume_id"],
            ["volumes.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dr_volume_id", name="uq_pairs_dr"),
        sa.UniqueConstraint("production_volume_id", name="uq_pairs_production"),
    )
    op.create_index("ix_pairs_group", "replication_pairs", ["group_id"], unique=False)
    op.create_index("ix_pairs_project", "replication_pairs", ["project_id", "created_at"], unique=False)


def downgrade() -> None:
    """Take the migration back."""
    op.drop_index("ix_pairs_project", table_name="replication_pairs")
    op.drop_index("ix_pairs_group", table_name="replication_pairs")
    op.drop_table("replication_pairs")
    op.drop_table("attachments")
    op.drop_index("ix_volumes_site", table_name="volumes")
    op.drop_index("ix_volumes_project", table_name="volumes")
    op.drop_table("volumes")
    op.drop_index("ix_tokens_expires_at", table_name="tokens")
    op.drop_table("tokens")
    op.drop_index("ix_groups_project", table_name="replication_groups")
    op.drop_table("replication_groups")
    op.drop_table("assignments")
    op.drop_table("worker_reports")
    op.drop_table("users")
    op.drop_table("projects")
    op.drop_table("sites")
    op.drop_table("installation")
    op.drop_table("domains")
