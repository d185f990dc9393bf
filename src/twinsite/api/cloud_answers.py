"""Bodies of what every OpenStack cloud tells of itself: versions, types, zones, limits, and Keystone's; for OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from twinsite.api.answers import Answer, Link


class OpenAnswer(Answer):
    """Root of what may have more fields than are named here."""

    model_config = ConfigDict(strict=True, extra="allow")


class MediaType(Answer):
    """A media type of a version."""

    base: str
    type: str


class VersionAnswer(Answer):
    """A version of an interface."""

    id: str
    status: str
    version: str | None = None
    min_version: str | None = None
    updated: str
    links: list[Link]
    media_types: list[MediaType] = Field(alias="media-types")


class VersionList(Answer):
    """The versions of the volume interface."""

    versions: list[VersionAnswer]


class VersionValues(Answer):
    """A list of versions, one level deeper, as Keystone has it."""

    values: list[VersionAnswer]


class IdentityVersionList(Answer):
    """The versions of the identity interface."""

    versions: VersionValues


class VersionOne(Answer):
    """One version."""

    version: VersionAnswer


class HealthAnswer(Answer):
    """That the controller answers, and which sites' nodes are connected."""

    status: str
    sites: dict[str, bool]


class ReadyAnswer(Answer):
    """That the controller can serve."""

    status: str


class VolumeTypeAnswer(Answer):
    """A volume type."""

    id: str
    name: str
    description: str | None
    is_public: bool
    access_is_public: bool = Field(alias="os-volume-type-access:is_public")
    extra_specs: dict[str, str]
    qos_specs_id: str | None


class VolumeTypeList(Answer):
    """All volume types."""

    volume_types: list[VolumeTypeAnswer]


class VolumeTypeOne(Answer):
    """One volume type."""

    volume_type: VolumeTypeAnswer


class ZoneState(Answer):
    """Whether a zone can be used."""

    available: bool


class ZoneAnswer(Answer):
    """An availability zone."""

    zoneName: str  # noqa: N815 - the name on the wire.
    zoneState: ZoneState  # noqa: N815


class ZoneList(Answer):
    """All availability zones."""

    availabilityZoneInfo: list[ZoneAnswer]  # noqa: N815


class Limits(Answer):
    """Limits of rate, of which there are none here, and what the project may use and uses."""

    rate: list[Any]
    absolute: dict[str, int]


class LimitsAnswer(Answer):
    """The project's limits."""

    limits: Limits


class QuotaFigures(Answer):
    """A quota with what is used of it."""

    limit: int
    in_use: int
    reserved: int


class QuotaSet(OpenAnswer):
    """The project's quotas: plain numbers, or with what is used of them."""

    id: str
    volumes: int | QuotaFigures
    gigabytes: int | QuotaFigures


class QuotaAnswer(Answer):
    """The project's quotas."""

    quota_set: QuotaSet


class ExtensionList(Answer):
    """Cinder's extensions: none is told apart."""

    extensions: list[Any]


class TokenAnswer(OpenAnswer):
    """A token, as Keystone shows it."""

    methods: list[str]
    user: dict[str, Any]
    issued_at: str
    expires_at: str


class TokenOne(Answer):
    """One token."""

    token: TokenAnswer


class NamedAnswer(OpenAnswer):
    """A project or domain, as Keystone shows it."""

    id: str
    name: str


class ProjectOne(OpenAnswer):
    """One project."""

    project: NamedAnswer


class ProjectList(OpenAnswer):
    """Projects."""

    projects: list[NamedAnswer]


class DomainList(OpenAnswer):
    """Domains."""

    domains: list[NamedAnswer]


class ServiceAnswer(OpenAnswer):
    """A service of the catalog, with its endpoints."""

    id: str
    type: str
    name: str
    endpoints: list[dict[str, Any]]


class CatalogAnswer(OpenAnswer):
    """Where the services are."""

    catalog: list[ServiceAnswer]


IDENTITY_ANSWERS: Mapping[str, type[Answer]] = {
    "log_in": TokenOne,
    "show_token": TokenOne,
    "list_own_projects": ProjectList,
    "list_projects": ProjectList,
    "show_project": ProjectOne,
    "list_own_domains": DomainList,
    "show_catalog": CatalogAnswer,
}
"""Answers of the identity interface, by the name of the operation."""
