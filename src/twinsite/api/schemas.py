"""Bodies that clients send. Types are checked strictly.

Fields that are not listed are tolerated, as Cinder does, but for the values of actions.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from twinsite.control.lifecycle.labels import TAGS_MAX
from twinsite.control.lifecycle.volumes import METADATA_ENTRIES_MAX, SIZE_GIB_MAX
from twinsite.core.limits import GROUP_MEMBERS_MAX

Id = Annotated[
    str,
    Field(max_length=255, examples=["9d3a1c5e-2f0b-4c55-9d0e-3a3c0f0a1b2c"], json_schema_extra={"format": "uuid"}),
]
MEMBERS_MAX = 1024

# What the services check, with a code for each, is only documented here.
_TEXT: JsonDict = {"maxLength": 255, "description": "At most 255 bytes of UTF-8."}
Text = Annotated[str | None, Field(json_schema_extra=_TEXT)]


def _integral(value: object) -> object:
    """Return a number without a fraction as an integer: JSON does not tell 1.0 from 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Gib = Annotated[
    int,
    BeforeValidator(_integral),
    Field(json_schema_extra={"minimum": 1, "maximum": SIZE_GIB_MAX, "description": "GiB."}),
]
Model = Annotated[str, Field(examples=["hypermetro"], json_schema_extra={"enum": ["hypermetro"]})]
_UNOFFERED: JsonDict = {"type": "null", "description": "Anything else answers 501."}
_ENTRIES: JsonDict = {
    "maxProperties": METADATA_ENTRIES_MAX,
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 255},
}
_ENTRY: JsonDict = {**_ENTRIES, "minProperties": 1, "maxProperties": 1}
_TAGS: JsonDict = {
    "maxProperties": TAGS_MAX,
    "propertyNames": {"pattern": "^[A-Za-z0-9_\\-\u4e00-\u9fff]{1,36}$"},
    "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_.\\-\u4e00-\u9fff]{0,43}$"},
}
_TAG: JsonDict = {**_TAGS, "minProperties": 1, "maxProperties": 1}


class Body(BaseModel):
    """Root of what clients send."""

    model_config = ConfigDict(strict=True, extra="ignore")


class ActionValue(BaseModel):
    """Root of values of actions, in which an unknown key is a misspelt one: see `action_values`."""

    model_config = ConfigDict(strict=True, extra="forbid")


class VolumeFields(Body):
    """A new volume. `size` is in GiB. The last three are for later releases and answer 501 when set."""

    size: Gib = Field(examples=[10])
    availability_zone: str | None = Field(None, examples=["az1"])
    name: Text = Field(None, examples=["database-1"])
    description: Text = None
    volume_type: str | None = Field(None, examples=["SSD"], description="Name or id; the default type when left out.")
    metadata: dict[str, str] | None = Field(None, json_schema_extra=_ENTRIES)
    multiattach: bool | None = None
    snapshot_id: Any = Field(None, json_schema_extra=_UNOFFERED)
    source_volid: Any = Field(None, json_schema_extra=_UNOFFERED)
    imageRef: Any = Field(None, json_schema_extra=_UNOFFERED)  # noqa: N815 - the name on the wire.


class VolumeCreate(Body):
    """Body of POST /volumes."""

    volume: VolumeFields


class VolumeChangeFields(Body):
    """New values of a volume; what is left out stays."""

    name: Text = None
    description: Text = None
    display_name: Text = None
    display_description: Text = None
    metadata: dict[str, str] | None = Field(None, json_schema_extra=_ENTRIES)


class VolumeUpdate(Body):
    """Body of PUT /volumes/{id}."""

    volume: VolumeChangeFields


class VolumeExtendFields(ActionValue):
    """Value of os-extend: the size that the volume is to have, in GiB."""

    new_size: Gib = Field(examples=[20])


class MetadataBody(Body):
    """Metadata of a volume: what is given is added, or takes the place of all."""

    metadata: dict[str, str] = Field(json_schema_extra=_ENTRIES)


class MetadataEntryBody(Body):
    """One entry of a volume's metadata, under the key that the path has."""

    meta: dict[str, str] = Field(json_schema_extra=_ENTRY)


class TagsBody(Body):
    """Tags of a volume: what is given is added, or takes the place of all."""

    tags: dict[str, str] = Field(json_schema_extra=_TAGS)


class TagBody(Body):
    """One tag of a volume, under the key that the path has."""

    tag: dict[str, str] = Field(json_schema_extra=_TAG)


class PairFields(Body):
    """A new pair: a production disk in `priority_station` and a DR disk in another zone, in either order."""

    name: Text = None
    description: Text = None
    volume_ids: list[Id] = Field(
        max_length=MEMBERS_MAX, json_schema_extra={"minItems": 2, "maxItems": 2, "uniqueItems": True}
    )
    priority_station: str = Field(examples=["az1"])
    replication_model: Model


class PairCreate(Body):
    """Body of POST /os-vendor-replications."""

    replication: PairFields


class GroupFields(Body):
    """A new group of pairs."""

    name: Text = None
    description: Text = None
    replication_ids: list[Id] = Field(
        max_length=MEMBERS_MAX, json_schema_extra={"minItems": 1, "maxItems": GROUP_MEMBERS_MAX, "uniqueItems": True}
    )
    priority_station: str = Field(examples=["az1"])
    replication_model: Model


class GroupCreate(Body):
    """Body of POST /os-vendor-replication-consistency-groups."""

    replication_consistency_group: GroupFields


class GroupChangeFields(Body):
    """New values of a group; what is left out stays."""

    name: Text = None
    description: Text = None
    replication_model: Model | None = None
    add_replication_ids: list[Id] | None = Field(
        None, max_length=MEMBERS_MAX, json_schema_extra={"maxItems": GROUP_MEMBERS_MAX, "uniqueItems": True}
    )
    remove_replication_ids: list[Id] | None = Field(None, max_length=MEMBERS_MAX)


class GroupUpdate(Body):
    """Body of PUT /os-vendor-replication-consistency-groups/{id}."""

    replication_consistency_group: GroupChangeFields


class NewSize(ActionValue):
    """A pair and the size that its two disks are to have, in GiB."""

    id: Id
    new_size: Gib = Field(examples=[20])


class ExtendFields(ActionValue):
    """Value of os-extend-replication-volumes."""

    replications: list[NewSize] = Field(max_length=MEMBERS_MAX)


class Connector(Body):
    """Who connects to a volume. Cinder's other fields are tolerated."""

    host: str | None = Field(None, examples=["host-1"])


class ConnectorBody(ActionValue):
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
    """What the token is to be good for. What else is named is refused: a token for less would be no answer to it."""

    model_config = ConfigDict(strict=True, extra="allow")

    project: NamedTarget | None = None
    domain: DomainName | None = None


class AuthFields(Body):
    """A login. `scope` may also be the text "unscoped"."""

    identity: AuthIdentity
    scope: AuthScope | str | None = None


class AuthBody(Body):
    """Body of POST /identity/v3/auth/tokens."""

    auth: AuthFields
