"""The tables. Times are UTC without a zone; ids are dashed UUIDs unless stated; JSON columns hold plain JSON."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, String, UniqueConstraint, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAME_BYTES_MAX = 255
"""Longest name or description, in bytes of UTF-8."""


class Base(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads a plain class attribute.
        dict[str, Any]: JSON,
        dict[str, str]: JSON,
        dict[str, int]: JSON,
        list[str]: JSON,
    }


class Installation(Base):
    """One row: which installation this database belongs to."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[datetime.datetime]
    arbiter_changes: Mapped[int] = mapped_column(BigInteger, default=0)
    """Counts the changes of arbiter rows. A controller that remembers more of them knows that this is a backup."""


class Site(Base):
    """An availability zone, and its node as last heard."""

    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger)  # Grows with every change of what the site should be.
    seen_generation: Mapped[int] = mapped_column(BigInteger)  # What its node has seen of that.
    node_name: Mapped[str | None] = mapped_column(String(255))
    last_seen_at: Mapped[datetime.datetime | None]
    pool_total_bytes: Mapped[int] = mapped_column(BigInteger)
    pool_free_bytes: Mapped[int] = mapped_column(BigInteger)
    lost_at: Mapped[datetime.datetime | None]  # When an operator gave it up: nothing waits for its node any more.


class Tombstone(Base):
    """Something that a site's node has to remove: the state of a deleted group's worker, or a volume of a lost site."""

    __tablename__ = "tombstones"

    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    object_id: Mapped[str] = mapped_column(String(36), primary_key=True)


class Volume(Base):
    """A disk. `node_state`, `nbd_uris` and `store_bytes` (the size of its store) are its node's last word."""

    __tablename__ = "volumes"
    __table_args__ = (
        Index("ix_volumes_project", "project_id", "created_at"),
        Index("ix_volumes_site", "site"),
        Index("ix_volumes_status", "status"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    user_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(255))
    size_gib: Mapped[int]
    target_gib: Mapped[int | None]  # The size that an extension that is under way gives it.
    is_grown: Mapped[bool] = mapped_column(default=False)  # Its worker is told that size already.
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    volume_type: Mapped[str] = mapped_column(String(255))
    multiattach: Mapped[bool]
    user_metadata: Mapped[dict[str, str]]
    tags: Mapped[dict[str, str]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(String(32))
    node_state: Mapped[str | None] = mapped_column(String(32))
    nbd_uris: Mapped[list[str]]
    store_bytes: Mapped[int | None] = mapped_column(BigInteger)
    failure_code: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None]
    spec_version: Mapped[int] = mapped_column(BigInteger)  # Of the worker that serves the volume outside any group.
    request_id: Mapped[str | None] = mapped_column(String(64))  # The last one that changed it; node and worker log it.
    created_at: Mapped[datetime.datetime]
    updated_at: Mapped[datetime.datetime | None]

    # Loaded with volumes that are asked for, and not with those of a pair, where nobody looks at them.
    attachments: Mapped[list[Attachment]] = relationship(
        back_populates="volume", cascade="all, delete-orphan", lazy="raise", order_by="Attachment.attached_at"
    )

    @property
    def worker_gib(self) -> int:
        """Return the size that its worker is told: that of an extension as soon as it is this disk's turn."""
        return self.target_gib if self.is_grown and self.target_gib is not None else self.size_gib


class Attachment(Base):
    """A host that was given the way to a volume."""

    __tablename__ = "attachments"
    __table_args__ = (UniqueConstraint("volume_id", "host", name="uq_attachments_volume_host"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    volume_id: Mapped[str] = mapped_column(ForeignKey("volumes.id", ondelete="CASCADE"))
    host: Mapped[str] = mapped_column(String(255))
    attached_at: Mapped[datetime.datetime]

    volume: Mapped[Volume] = relationship(back_populates="attachments")


class Group(Base):
    """A replication consistency group.

    `version` guards what users change (compare-and-swap); `spec_version` grows with anything in the workers' specs;
    `wish_version` is the `spec_version` of the last wish (sync, stop, a move), so that older reports cannot speak about
    it. The group's primary site is that of its arbiter's row: both change in one transaction.
    """

    __tablename__ = "replication_groups"
    __table_args__ = (Index("ix_groups_project", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(255))
    priority_station: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    secondary_station: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    replication_model: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(32))
    replication: Mapped[str] = mapped_column(String(32))  # The user's wish: "paused" or "running".
    replication_status: Mapped[str] = mapped_column(String(32))  # The last one that a worker settled.
    synced_at: Mapped[datetime.datetime | None]  # When the user asked for sync; null once it has begun.
    move_deadline: Mapped[datetime.datetime | None]  # When a failover or switchover that is under way has failed.
    stream_key: Mapped[str] = mapped_column(String(64))
    peer_endpoint: Mapped[str | None] = mapped_column(String(255))
    next_member_index: Mapped[int]
    loss_acceptances: Mapped[int] = mapped_column(default=0)  # How often the loss of acknowledged writes was accepted.
    recorded_state: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # How its last event left it.
    version: Mapped[int] = mapped_column(BigInteger)
    spec_version: Mapped[int] = mapped_column(BigInteger)
    wish_version: Mapped[int] = mapped_column(BigInteger)
    request_id: Mapped[str | None] = mapped_column(String(64))  # The last one that changed it; workers' logs name it.
    failure_code: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None]
    created_at: Mapped[datetime.datetime]
    updated_at: Mapped[datetime.datetime | None]

    pairs: Mapped[list[Pair]] = relationship(back_populates="group", lazy="selectin", order_by="Pair.member_index")
    arbiter: Mapped[ArbiterRow] = relationship(
        lazy="joined", innerjoin=True, cascade="all, delete-orphan", passive_deletes=True
    )


class ArbiterRow(Base):
    """The arbiter's record of a group: `core.arbiter.Row`. Every change is a compare-and-swap on `version`."""

    __tablename__ = "arbiter_rows"

    group_id: Mapped[str] = mapped_column(ForeignKey("replication_groups.id", ondelete="CASCADE"), primary_key=True)
    term: Mapped[int] = mapped_column(BigInteger)
    primary_site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    secondary: Mapped[str] = mapped_column(String(32))  # "in_sync" or "stale"
    stale_since: Mapped[float | None] = mapped_column(Double)  # Seconds since the epoch.
    version: Mapped[int] = mapped_column(BigInteger)
    unheard: Mapped[str] = mapped_column(String(1024), default="")  # Sites that must speak first: "az1,az2".
    question: Mapped[str] = mapped_column(String(36), default="")  # What they are asked.
    reached_term: Mapped[int] = mapped_column(BigInteger, default=0)  # In any history, as was known when it was asked.
    reached_version: Mapped[int] = mapped_column(BigInteger, default=0)


_DELETION = text("action = 'delete' AND result = 'done'")


class GroupEvent(Base):
    """What was done to a group, or happened to it. `before` is how the event before this one left it.

    No foreign key: it outlives its group, and tells of its deletion.
    """

    __tablename__ = "group_events"
    __table_args__ = (
        UniqueConstraint("group_id", "number", name="uq_group_events_number"),
        Index("ix_group_events_position", "position", unique=True),
        Index("ix_group_events_project", "project_id", "position"),
        Index(
            "ix_group_events_deletion", "project_id", "created_at", sqlite_where=_DELETION, postgresql_where=_DELETION
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    group_id: Mapped[str] = mapped_column(String(36))
    project_id: Mapped[str] = mapped_column(String(64))
    group_name: Mapped[str | None] = mapped_column(String(255))  # As the group was called then.
    number: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[int | None] = mapped_column(BigInteger)  # Among all events, once it is published.
    created_at: Mapped[datetime.datetime]
    actor: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))  # That it was recorded with, or follows from.
    action: Mapped[str] = mapped_column(String(64))
    result: Mapped[str] = mapped_column(String(32))
    message: Mapped[str | None]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any]]
    proof: Mapped[dict[str, Any]]


class EventFeed(Base):
    """One row: the position of the last event that was published. Who publishes holds its lock."""

    __tablename__ = "event_feed"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger)


class Webhook(Base):
    """Where a project has its events sent. The secret signs what is sent, and is never shown."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_project", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(String(2048))
    secret: Mapped[str] = mapped_column(String(255))
    kinds: Mapped[list[str]]  # Empty for every kind.
    created_at: Mapped[datetime.datetime]


class WebhookDelivery(Base):
    """Something that is to be sent, or was. A sender claims it by a compare-and-swap on `attempts`."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "state", "due_at"),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "number"),
    )

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(String(36), unique=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    content: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(32))  # "pending", "delivered" or "given_up"
    attempts: Mapped[int]
    due_at: Mapped[datetime.datetime]  # When it is tried next, or again if its sender has died.
    created_at: Mapped[datetime.datetime]
    finished_at: Mapped[datetime.datetime | None]
    answer_status: Mapped[int | None]  # Of the last attempt, when there was an answer.
    trouble: Mapped[str | None] = mapped_column(String(255))  # Why the last attempt failed.


class AuditRecord(Base):
    """Who asked for what change, with which result. It outlives its object, and its project."""

    __tablename__ = "audit_records"
    __table_args__ = (
        UniqueConstraint("id", name="uq_audit_records_id"),
        Index("ix_audit_records_project", "project_id", "number"),
    )

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime.datetime]
    request_id: Mapped[str] = mapped_column(String(64))
    project_id: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(String(64))
    user_name: Mapped[str] = mapped_column(String(255))
    address: Mapped[str] = mapped_column(String(64))
    operation: Mapped[str] = mapped_column(String(255))
    object_id: Mapped[str | None] = mapped_column(String(255))
    result: Mapped[str] = mapped_column(String(32))
    status: Mapped[int]
    message: Mapped[str | None] = mapped_column(String(1024))


class Extend(Base):
    """The last extension of a group's disks, under way or over.

    `targets` maps the id of each pair that grows to its new size in GiB. `spec_version` is that of the last step: a
    worker that has it in force has taken that step.
    """

    __tablename__ = "group_extends"

    group_id: Mapped[str] = mapped_column(ForeignKey("replication_groups.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(36))
    targets: Mapped[dict[str, int]]
    outcome: Mapped[str] = mapped_column(String(32))
    spec_version: Mapped[int] = mapped_column(BigInteger)
    room_deadline: Mapped[datetime.datetime]
    failure_code: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None]


class Pair(Base):
    """A production disk and a DR disk. `member_index` is their number in the group's stream."""

    __tablename__ = "replication_pairs"
    __table_args__ = (
        Index("ix_pairs_project", "project_id", "created_at"),
        Index("ix_pairs_group", "group_id"),
        UniqueConstraint("production_volume_id", name="uq_pairs_production"),
        UniqueConstraint("dr_volume_id", name="uq_pairs_dr"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(255))
    production_volume_id: Mapped[str] = mapped_column(ForeignKey("volumes.id"))
    dr_volume_id: Mapped[str] = mapped_column(ForeignKey("volumes.id"))
    production_first: Mapped[bool]  # In which order the client named the two.
    priority_station: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    replication_model: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(32))
    group_id: Mapped[str | None] = mapped_column(ForeignKey("replication_groups.id"))
    member_index: Mapped[int | None]
    failure_code: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None]
    created_at: Mapped[datetime.datetime]
    updated_at: Mapped[datetime.datetime | None]

    group: Mapped[Group | None] = relationship(back_populates="pairs")
    production_volume: Mapped[Volume] = relationship(foreign_keys=[production_volume_id], lazy="joined", innerjoin=True)
    dr_volume: Mapped[Volume] = relationship(foreign_keys=[dr_volume_id], lazy="joined", innerjoin=True)


class WorkerReport(Base):
    """What a site's node last said about one worker, as JSON of `messages.ObservedWorker`."""

    __tablename__ = "worker_reports"

    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    report: Mapped[dict[str, Any]]


class Domain(Base):
    """A Keystone domain."""

    __tablename__ = "domains"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    description: Mapped[str] = mapped_column(String(255), default="", server_default="")
    enabled: Mapped[bool] = mapped_column(default=True, server_default=true())


class Project(Base):
    """A Keystone project; owns volumes, pairs and groups."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("domain_id", "name", name="uq_projects_domain_name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    description: Mapped[str] = mapped_column(String(255), default="", server_default="")
    enabled: Mapped[bool] = mapped_column(default=True, server_default=true())

    domain: Mapped[Domain] = relationship(lazy="joined")


class QuotaLimit(Base):
    """What a project may have of something, where that is not the default; -1 for any amount.

    No foreign key: a project of a real Keystone gets its quota before it is first seen.
    """

    __tablename__ = "quota_limits"

    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    resource: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class User(Base):
    """A Keystone user with an Argon2 password hash; an empty one for a user without a password, who cannot log in."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("domain_id", "name", name="uq_users_domain_name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    password_hash: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(String(255), default="", server_default="")
    email: Mapped[str | None] = mapped_column(String(255))
    default_project_id: Mapped[str | None] = mapped_column(String(64))
    enabled: Mapped[bool] = mapped_column(default=True, server_default=true())

    domain: Mapped[Domain] = relationship(lazy="joined")


class Role(Base):
    """A role; what it allows is up to the rules."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("name", name="uq_roles_name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(String(255), default="")


class Assignment(Base):
    """A role that a user has on a project or on a domain; exactly one of the two is set."""

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("user_id", "project_id", "role_id", name="uq_assignments_project"),
        UniqueConstraint("user_id", "domain_id", "role_id", name="uq_assignments_domain"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    domain_id: Mapped[str | None] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    role_id: Mapped[str] = mapped_column(ForeignKey("roles.id", name="fk_assignments_role", ondelete="CASCADE"))

    user: Mapped[User] = relationship(lazy="joined")
    project: Mapped[Project | None] = relationship(lazy="joined")
    domain: Mapped[Domain | None] = relationship(lazy="joined")
    role: Mapped[Role] = relationship(lazy="joined")


class Token(Base):
    """A token: only the SHA-256 of its text is kept."""

    __tablename__ = "tokens"
    __table_args__ = (Index("ix_tokens_expires_at", "expires_at"), Index("ix_tokens_user", "user_id"))

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    domain_id: Mapped[str | None] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    methods: Mapped[list[str]]
    audit_id: Mapped[str] = mapped_column(String(64))
    issued_at: Mapped[datetime.datetime]
    expires_at: Mapped[datetime.datetime]

    user: Mapped[User] = relationship(lazy="joined")
    project: Mapped[Project | None] = relationship(lazy="joined")
    domain: Mapped[Domain | None] = relationship(lazy="joined")
