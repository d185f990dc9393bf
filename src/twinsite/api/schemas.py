"""Bodies that clients send. Types are checked strictly; fields that are not listed are tolerated, as Cinder does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(max_length=255, examples=["9d3a1c5e-2f0b-4c55-9d0e-3a3c0f0a1b2c"])]
MEMBERS_MAX = 1024


class Body(BaseModel):
    """Root of what clients send."""

    model_config = ConfigDict(strict=True, extra="ignore")


class VolumeFields(Body):
    """A new volume. `size` is in GiB. The last three are for later releases and answer 501 when set."""

    size: int = Field(examples=[10])
    availability_zone: str | None = Field(None, examples=["az1"])
    name: str | None = Field(None, examples=["database-1"])
    description: str | None = None
    volume_type: str | None = Field(None, examples=["SSD"], description="Name or id; the default type when left out.")
    metadata: dict[str, str] | None = None
    multiattach: bool | None = None
    snapshot_id: Any = None
    source_volid: Any = None
    imageRef: Any = None  # noqa: N815 - the name on the wire.


class VolumeCreate(Body):
    """Body of POST /volumes."""

    volume: VolumeFields


class VolumeChangeFields(Body):
    """New values of a volume; what is left out stays."""

    name: str | None = None
    description: str | None = None
    display_name: str | None = None
    display_description: str | None = None
    metadata: dict[str, str] | None = None


class VolumeUpdate(Body):
    """Body of PUT /volumes/{id}."""

    volume: VolumeChangeFields


class VolumeExtendFields(Body):
    """Value of os-extend: the size that the volume is to have, in GiB."""

    new_size: int = Field(examples=[20])


class MetadataBody(Body):
    """Metadata of a volume: what is given is added, or takes the place of all."""

    metadata: dict[str, str]


class MetadataEntryBody(Body):
    """One entry of a volume's metadata, under the key that the path has."""

    meta: dict[str, str]


class TagsBody(Body):
    """Tags of a volume: what is given is added, or takes the place of all."""

    tags: dict[str, str]


class TagBody(Body):
    """One tag of a volume, under the key that the path has."""

    tag: dict[str, str]


class PairFields(Body):
    """A new pair: a production disk in `priority_station` and a DR disk in another zone, in either order."""

    name: str | None = None
    description: str | None = None
    volume_ids: list[Id] = Field(max_length=MEMBERS_MAX)
    priority_station: str = Field(examples=["az1"])
    replication_model: str = Field(examples=["hypermetro"])


class PairCreate(Body):
    """Body of POST /os-vendor-replications."""

    replication: PairFields


class GroupFields(Body):
    """A new group of pairs."""

    name: str | None = None
    description: str | None = None
    replication_ids: list[Id] = Field(max_length=MEMBERS_MAX)
    priority_station: str = Field(examples=["az1"])
    replication_model: str = Field(examples=["hypermetro"])


class GroupCreate(Body):
    """Body of POST /os-vendor-replication-consistency-groups."""

    replication_consistency_group: GroupFields


class GroupChangeFields(Body):
    """New values of a group; what is left out stays."""

    name: str | None = None
    description: str | None = None
    replication_model: str | None = None
    add_replication_ids: list[Id] | None = Field(None, max_length=MEMBERS_MAX)
    remove_replication_ids: list[Id] | None = Field(None, max_length=MEMBERS_MAX)


class GroupUpdate(Body):
    """Body of PUT /os-vendor-replication-consistency-groups/{id}."""

    replication_consistency_group: GroupChangeFields


class NewSize(Body):
    """A pair and the size that its two disks are to have, in GiB."""

    id: Id
    new_size: int = Field(examples=[20])


class ExtendFields(Body):
    """Value of os-extend-replication-volumes."""

    replications: list[NewSize] = Field(max_length=MEMBERS_MAX)


class Connector(Body):
    """Who connects to a volume. Cinder's other fields are tolerated."""

    host: str | None = Field(None, examples=["host-1"])


class ConnectorBody(Body):
    """Value of os-initialize_connection and os-terminate_connection."""

    connector: Connector | None = None


class DomainName(Body):
    """A domain by id or name."""

    id: str | None = None
    name: str | None = None


class NamedTarget(Body):
    """A project or user by id, or by name within a domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainName | None = None


class PasswordUser(NamedTarget):
    """A user with a password."""

    password: str


class PasswordMethod(Body):
    """Method `password`."""

    user: PasswordUser


class TokenMethod(Body):
    """Method `token`."""

    id: str


class AuthIdentity(Body):
    """Who logs in, and how."""

    methods: list[str] = Field(max_length=16, examples=[["password"]])
    password: PasswordMethod | None = None
    token: TokenMethod | None = None


class AuthScope(Body):
    """What the token is to be good for."""

    project: NamedTarget | None = None
    domain: DomainName | None = None


class AuthFields(Body):
    """A login. `scope` may also be the text "unscoped"."""

    identity: AuthIdentity
    scope: AuthScope | str | None = None


class AuthBody(Body):
    """Body of POST /identity/v3/auth/tokens."""

    auth: AuthFields
