"""The secrets of an installation, and the files that OpenStack clients read them from."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from twinsite.durable_file import replace_file

SECRET_BYTES = 24
CLOUD_NAME = "twinsite"
USER_NAME = "admin"
PROJECT_NAME = "admin"
DOMAIN_NAME = "Default"
REGION_NAME = "RegionOne"

_SECRET_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Secrets:
    """The administrator's password and the token by which nodes are known."""

    admin_password: str = field(repr=False)
    node_token: str = field(repr=False)
    node_token_path: Path


def ensure_secrets(directory: Path) -> Secrets:
    """Return the secrets in `directory`, drawing those that are not there yet. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token_path = directory / "node-token"
    return Secrets(_ensure_secret(directory / "admin-password"), _ensure_secret(token_path), token_path)


def write_client_files(data_dir: Path, api_url: str, password: str) -> None:
    """Write clouds.yaml and openrc for the API at `api_url`, readable by their owner only. Raises `OSError`."""
    auth_url = f"{api_url}/identity/v3"
    cloud = {
        "auth": {
            "auth_url": auth_url,
            "username": USER_NAME,
            "password": password,
            "project_name": PROJECT_NAME,
            "user_domain_name": DOMAIN_NAME,
            "project_domain_name": DOMAIN_NAME,
        },
        "region_name": REGION_NAME,
        "identity_api_version": "3",
        "volume_api_version": "3",
    }
    text = yaml.safe_dump({"clouds": {CLOUD_NAME: cloud}}, sort_keys=False)
    replace_file(data_dir / "clouds.yaml", text, _SECRET_MODE)
    variables = {
        "OS_AUTH_URL": auth_url,
        "OS_USERNAME": USER_NAME,
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": PROJECT_NAME,
        "OS_USER_DOMAIN_NAME": DOMAIN_NAME,
        "OS_PROJECT_DOMAIN_NAME": DOMAIN_NAME,
        "OS_REGION_NAME": REGION_NAME,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_VOLUME_API_VERSION": "3",
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    replace_file(data_dir / "openrc", "".join(lines), _SECRET_MODE)


def _ensure_secret(path: Path) -> str:
    try:
        present = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        present = ""
    if present:
        return present
    drawn = secrets.token_urlsafe(SECRET_BYTES)
    replace_file(path, f"{drawn}\n", _SECRET_MODE)
    return drawn
