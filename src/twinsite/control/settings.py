"""The controller's settings: defaults, a TOML file, environment variables; the later ones win."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

SETTINGS_FILE_NAME = "twinsite.toml"
"""Looked for in the data directory when no other file is named."""

POLICY_FILE_NAME = "policy.yaml"
"""Looked for in the data directory when no other file is named."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Limit = Annotated[int, Field(ge=-1, le=2**40)]
Seconds = Annotated[float, Field(gt=0, le=3600)]

_VOLUME_TYPE_NAMESPACE = uuid.UUID("6f6b5c0e-5d1c-4a1f-9a1e-6d4b7c0f3d11")


class ControllerSettings(BaseSettings):
    """Everything that an operator may set. Environment variables are named `TWINSITE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TWINSITE_", extra="forbid")

    data_dir: Path
    config_file: Path | None = None
    database_url: str | None = None
    """SQLAlchemy address of the database; a SQLite file in the data directory when left out."""
    public_url: str | None = None
    """Address under which clients reach this API; taken from each request's Host header when left out."""
    tls_certificate: Path | None = None
    """The API's certificate with those that vouch for it, in PEM. With it the API is https, and nothing else."""
    tls_key: Path | None = None
    """Its key, where that is not in the same file. Both are read again when they change."""
    tls_ca_file: Path | None = None
    """The authority of that certificate, for the files that `up` writes and for its nodes; the system's by default."""
    region: Name = "RegionOne"
    availability_zones: list[Name] = ["az1", "az2"]
    volume_types: list[Name] = ["SSD", "SAS", "SATA"]
    default_volume_type: Name = "SSD"
    quota_volumes: Limit = 10_000
    quota_gigabytes: Limit = 10_000_000
    quota_per_volume_gigabytes: Limit = -1
    quota_pairs: Limit = 10_000
    quota_groups: Limit = 1_000
    """What a project may have as long as it has no quota of its own; -1 for any amount."""
    token_lifetime_seconds: int = Field(default=24 * 3600, ge=60, le=10 * 365 * 24 * 3600)
    """Long by default: a client that cannot log in again half-way must get through its work."""
    login_failures_per_user: int = Field(default=30, ge=0, le=10_000)
    """How many log-ins of one user may fail at once and in each minute, whoever tries; 0 for no limit."""
    login_failures_per_address: int = Field(default=10, ge=0, le=10_000)
    """The same from one address. Less than for a user, so that one address cannot lock a user out."""
    keystone_auth_url: str | None = None
    """A real Keystone (`https://…/v3`) in the place of the embedded identity. The settings below are for it alone."""
    keystone_username: Name = "twinsite"
    """The service user that asks about tokens; it needs the role `service` or `admin` on its project."""
    keystone_password: SecretStr | None = None
    keystone_project: Name = "service"
    keystone_user_domain: Name = "Default"
    keystone_project_domain: Name = "Default"
    keystone_ca_file: Path | None = None
    """Whom to trust at that address; the system's authorities when left out."""
    keystone_cache_seconds: float = Field(default=30.0, ge=0, le=300)
    """How long its word on a token is good; a token that it revokes is refused here after that."""
    keystone_timeout_seconds: Seconds = 10.0
    audit_records_max: int = Field(default=10_000, ge=100, le=10_000_000)
    """How many records of who asked for what are kept of each project."""
    metrics_token: SecretStr | None = Field(default=None, min_length=8)
    """What `GET /metrics` asks for, as a bearer token; without one it answers on this machine only."""
    policy_file: Path | None = None
    """Rules that override the defaults of docs/policy.yaml; DATA_DIR/policy.yaml when left out, if it is there."""
    webhook_allowed_hosts: list[Name] = []
    """Where webhooks may lead: names, `*.domain`, addresses or networks. Empty for any public address, and no other."""
    webhook_ca_file: Path | None = None
    """Whom to trust at https addresses of webhooks; the public authorities when left out."""
    page: bool = True
    """Whether the controller has its web page, at /ui."""
    admin_user: Name = "admin"
    admin_project: Name = "admin"
    head_seconds_max: Seconds = 20.0
    """How long a client may take to send the head of a request, from the moment in which one is expected."""
    body_seconds_max: Seconds = 30.0
    """How long a client may take to send a whole body, of at most 1 MiB; also how long it may go on after an answer."""
    poll_seconds: Seconds = 1.0
    """How often a waiter looks at the database by itself, for changes made by another controller."""
    node_wait_seconds_max: Seconds = 30.0
    """Longest time that a node's report is held."""
    node_silence_seconds: Seconds = 12.0
    """A node silent for longer is taken to be out of reach."""
    presence_seconds: Seconds = 4.0
    """How often a node that is there is recorded as such; well below `node_silence_seconds`."""
    connect_wait_seconds: Seconds = 30.0
    """How long os-initialize_connection waits for the worker."""
    stop_wait_seconds: Seconds = 30.0
    """How long `stop` waits until the primary worker has stopped sending."""
    reverse_wait_seconds: Seconds = 15.0
    """How long a switchover may keep hosts waiting before it is rolled back; then as long for the new primary."""
    failover_wait_seconds: Seconds = 60.0
    """How long a failover waits for the new primary before it says that it failed."""
    extend_room_seconds: Seconds = 15.0
    """How long both sites' pools may take to make room for an extension before it is undone."""
    extend_wait_seconds: Seconds = 30.0
    """How long an extension's call waits for its end; it goes on by itself after that."""
    sync_grace_seconds: Seconds = 8.0
    """After `sync`, a primary that is still connecting counts as copying for this long."""

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if len(set(self.availability_zones)) != len(self.availability_zones) or len(self.availability_zones) < 2:
            raise ValueError("availability_zones: name at least two zones, each once")
        if not all(zone.replace("-", "").replace("_", "").isalnum() for zone in self.availability_zones):
            raise ValueError("availability_zones: use letters, digits, '-' and '_' only; the name is part of a path")
        if self.default_volume_type not in self.volume_types:
            raise ValueError("default_volume_type: must be one of volume_types")
        if self.presence_seconds * 2 > self.node_silence_seconds:
            raise ValueError("presence_seconds: must be at most half of node_silence_seconds")
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls_key: name tls_certificate too")
        if self.keystone_auth_url is not None:
            if not self.keystone_auth_url.startswith(("http://", "https://")):
                raise ValueError("keystone_auth_url: begin it with http:// or https://")
            if self.keystone_password is None:
                raise ValueError("keystone_password: the service user needs one; TWINSITE_KEYSTONE_PASSWORD sets it")
        if self.extend_room_seconds >= self.extend_wait_seconds:
            raise ValueError("extend_room_seconds: must be less than extend_wait_seconds")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the TOML file."""
        given = {**env_settings(), **init_settings()}
        file = given.get("config_file") or Path(given.get("data_dir", ".")) / SETTINGS_FILE_NAME
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(file))

    @property
    def controller_dir(self) -> Path:
        """Where the controller keeps its own files."""
        return self.data_dir / "controller"

    @property
    def secrets_dir(self) -> Path:
        """Where the admin's password and the nodes' token lie."""
        return self.data_dir / "secrets"

    def database_address(self) -> str:
        """Return the SQLAlchemy address of the database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.controller_dir / 'twinsite.db'}"

    def policy_path(self) -> Path:
        """Return the file of the rules that override the defaults; it need not be there."""
        return self.policy_file or self.data_dir / POLICY_FILE_NAME

    def volume_type_id(self, name: str) -> str:
        """Return the id of a volume type: the same on every controller and after every start."""
        return str(uuid.uuid5(_VOLUME_TYPE_NAMESPACE, name))
