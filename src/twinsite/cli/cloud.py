"""Where the command line finds the API, and who it is there: the files and variables of the OpenStack clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twinsite.errors import ConfigurationError

DOMAIN_DEFAULT = "Default"
NOT_FOUND = (
    "no cloud is configured. Name the data directory of 'twinsite up' with --data DIR, or a cloud of your clouds.yaml "
    "with --os-cloud NAME, or set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME"
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """An identity endpoint (`…/v3`) and a user of one project. `source` says to a person where this was found."""

    auth_url: str
    username: str
    password: str
    project_name: str
    source: str
    user_domain: str = DOMAIN_DEFAULT
    project_domain: str = DOMAIN_DEFAULT
    region: str | None = None
    ca_file: str | None = None
    verify: bool = True


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
        {
            "auth_url": auth.get("auth_url"),
            "username": auth.get("username"),
            "password": auth.get("password"),
            "project_name": auth.get("project_name"),
        },
        source=f"cloud {name!r} of {path}",
        user_domain=auth.get("user_domain_name") or auth.get("domain_name"),
        project_domain=auth.get("project_domain_name") or auth.get("domain_name"),
        region=entry.get("region_name"),
        ca_file=entry.get("cacert"),
        verify=entry.get("verify", True) is not False,
    )


def _from_environment(environment: Mapping[str, str]) -> Cloud:
    names = {"auth_url": "OS_AUTH_URL", "username": "OS_USERNAME", "password": "OS_PASSWORD"}
    values = {key: environment.get(variable) for key, variable in names.items()}
    return _cloud(
        {**values, "project_name": environment.get("OS_PROJECT_NAME")},
        source="the OS_* environment variables",
        user_domain=environment.get("OS_USER_DOMAIN_NAME"),
        project_domain=environment.get("OS_PROJECT_DOMAIN_NAME"),
        region=environment.get("OS_REGION_NAME"),
        ca_file=environment.get("OS_CACERT"),
        verify=True,
    )


def _cloud(
    required: dict[str, Any],
    *,
    source: str,
    user_domain: str | None,
    project_domain: str | None,
    region: str | None,
    ca_file: str | None,
    verify: bool,
) -> Cloud:
    missing = [key for key, value in required.items() if not value]
    if missing:
        raise ConfigurationError(f"{source}: {', '.join(missing)} missing")
    texts = {key: str(value) for key, value in required.items()}
    return Cloud(
        auth_url=texts["auth_url"].rstrip("/"),
        username=texts["username"],
        password=texts["password"],
        project_name=texts["project_name"],
        source=source,
        user_domain=user_domain or DOMAIN_DEFAULT,
        project_domain=project_domain or DOMAIN_DEFAULT,
        region=region,
        ca_file=ca_file,
        verify=verify,
    )
