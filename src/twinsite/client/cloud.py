"""Where the API is, and who one is there: as the files and variables of the OpenStack clients have it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from twinsite.errors import ConfigurationError

DOMAIN_DEFAULT = "Default"
NOT_FOUND = (
    "no cloud is configured. Name the data directory of 'twinsite up' with --data DIR, or a cloud of your clouds.yaml "
    "with --os-cloud NAME, or set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME"
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """An identity endpoint (`…/v3`) and a user of one project, by a password or by a token that there is already.

    `source` says to a person where this was found. The project is named by its id, or by its name and domain.
    """

    auth_url: str
    username: str = ""
    password: str = field(default="", repr=False)
    project_name: str | None = None
    source: str = "given by the program"
    user_domain: str = DOMAIN_DEFAULT
    project_domain: str = DOMAIN_DEFAULT
    region: str | None = None
    ca_file: str | None = None
    verify: bool = True
    project_id: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Say whether the API is on this machine."""
        host = urlsplit(self.auth_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def login_body(self) -> dict[str, Any]:
        """Return the body of `POST …/auth/tokens` that logs in to the project."""
        identity: dict[str, Any] = {"methods": ["token"], "token": {"id": self.token}}
        if self.token is None:
            user = {"name": self.username, "password": self.password, "domain": {"name": self.user_domain}}
            identity = {"methods": ["password"], "password": {"user": user}}
        project = {"name": self.project_name, "domain": {"name": self.project_domain}}
        scope = {"project": {"id": self.project_id} if self.project_id else project}
        return {"auth": {"identity": identity, "scope": scope}}


def find_cloud(data: Path | None, name: str | None, environment: Mapping[str, str], directory: Path) -> Cloud:
    """Return the cloud to talk to.

    In this order: `data`/clouds.yaml; the cloud called `name` or OS_CLOUD; the OS_* variables; the only cloud of
    OS_CLIENT_CONFIG_FILE or of clouds.yaml in `directory`. Raises `ConfigurationError` when there is none, or when
    what is there is not usable.
    """
    if data is not None:
        path = data / "clouds.yaml"
        if not path.is_file():
            raise ConfigurationError(f"{path} does not exist. Is {data} the data directory of a running 'twinsite up'?")
        return _from_file(path, name)
    name = name or environment.get("OS_CLOUD")
    if name is None and environment.get("OS_AUTH_URL"):
        return _from_environment(environment)
    for path in _config_files(environment, directory):
        if path.is_file() and (name is None or name in _clouds(path)):
            return _from_file(path, name)
    if name is not None:
        searched = ", ".join(str(path) for path in _config_files(environment, directory))
        raise ConfigurationError(f"no cloud is called {name!r}. Looked in {searched}")
    raise ConfigurationError(NOT_FOUND)


def _config_files(environment: Mapping[str, str], directory: Path) -> list[Path]:
    """Return the places where OpenStack clients look, in their order."""
    if environment.get("OS_CLIENT_CONFIG_FILE"):
        return [Path(environment["OS_CLIENT_CONFIG_FILE"])]
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", "/"), ".config")
    return [directory / "clouds.yaml", Path(home, "openstack", "clouds.yaml"), Path("/etc/openstack/clouds.yaml")]


def _clouds(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    clouds = content.get("clouds") if isinstance(content, dict) else None
    if not isinstance(clouds, dict) or not clouds:
        raise ConfigurationError(f"{path} has no 'clouds' section with a cloud in it")
    return clouds


def _from_file(path: Path, name: str | None) -> Cloud:
    clouds = _clouds(path)
    if name is None and len(clouds) > 1:
        raise ConfigurationError(f"{path} has several clouds: choose one with --os-cloud ({', '.join(sorted(clouds))})")
    name = name or next(iter(clouds))
    entry = clouds.get(name)
    auth = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(auth, dict):
        raise ConfigurationError(f"{path} has no usable cloud called {name!r}: it needs an 'auth' section")
    return _cloud(
        {key: auth.get(key) for key in _CREDENTIALS},
        source=f"cloud {name!r} of {path}",
        user_domain=auth.get("user_domain_name") or auth.get("domain_name"),
        project_domain=auth.get("project_domain_name") or auth.get("domain_name"),
        region=entry.get("region_name"),
        ca_file=entry.get("cacert"),
        verify=entry.get("verify", True) is not False,
    )


_CREDENTIALS = ("auth_url", "username", "password", "project_name", "project_id", "token")


def _from_environment(environment: Mapping[str, str]) -> Cloud:
    return _cloud(
        {key: environment.get(f"OS_{key.upper()}") for key in _CREDENTIALS},
        source="the OS_* environment variables",
        user_domain=environment.get("OS_USER_DOMAIN_NAME"),
        project_domain=environment.get("OS_PROJECT_DOMAIN_NAME"),
        region=environment.get("OS_REGION_NAME"),
        ca_file=environment.get("OS_CACERT"),
        verify=True,
    )


def _cloud(
    credentials: Mapping[str, Any],
    *,
    source: str,
    user_domain: str | None,
    project_domain: str | None,
    region: str | None,
    ca_file: str | None,
    verify: bool,
) -> Cloud:
    required = ["auth_url"] if credentials["token"] else ["auth_url", "username", "password"]
    missing = [key for key in required if not credentials[key]]
    if not credentials["project_name"] and not credentials["project_id"]:
        missing.append("project_name")
    if missing:
        raise ConfigurationError(f"{source}: {', '.join(missing)} missing")
    texts = {key: str(value) if value else None for key, value in credentials.items()}
    return Cloud(
        auth_url=(texts["auth_url"] or "").rstrip("/"),
        username=texts["username"] or "",
        password=texts["password"] or "",
        project_name=texts["project_name"],
        source=source,
        user_domain=user_domain or DOMAIN_DEFAULT,
        project_domain=project_domain or DOMAIN_DEFAULT,
        region=region,
        ca_file=ca_file,
        verify=verify,
        project_id=texts["project_id"],
        token=texts["token"],
    )
