"""The files that OpenStack clients read an installation's address and password from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from twinsite.durable_file import replace_file

CLOUD_NAME = "twinsite"
DOMAIN_NAME = "Default"
SECRET_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom clients log in. `api_url` has no slash at its end."""

    api_url: str
    user: str
    password: str = field(repr=False)
    project: str
    region: str
    ca_file: Path | None = None


def write_client_files(data_dir: Path, login: Login) -> None:
    """Write clouds.yaml and openrc below `data_dir`, readable by their owner only. Raises `OSError`."""
    auth_url = f"{login.api_url}/identity/v3"
    cloud: dict[str, Any] = {
        "auth": {
            "auth_url": auth_url,
            "username": login.user,
            "password": login.password,
            "project_name": login.project,
            "user_domain_name": DOMAIN_NAME,
            "project_domain_name": DOMAIN_NAME,
        },
        "region_name": login.region,
        "identity_api_version": "3",
        "volume_api_version": "3",
    }
    if login.ca_file is not None:
        cloud["cacert"] = str(login.ca_file)
    text = yaml.safe_dump({"clouds": {CLOUD_NAME: cloud}}, sort_keys=False)
    replace_file(data_dir / "clouds.yaml", text, SECRET_FILE_MODE)
    variables = {
        "OS_AUTH_URL": auth_url,
        "OS_USERNAME": login.user,
        "OS_PASSWORD": login.password,
        "OS_PROJECT_NAME": login.project,
        "OS_USER_DOMAIN_NAME": DOMAIN_NAME,
        "OS_PROJECT_DOMAIN_NAME": DOMAIN_NAME,
        "OS_REGION_NAME": login.region,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_VOLUME_API_VERSION": "3",
    }
    if login.ca_file is not None:
        variables["OS_CACERT"] = str(login.ca_file)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    replace_file(data_dir / "openrc", "".join(lines), SECRET_FILE_MODE)
