"""Secrets and client files of an installation."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import yaml

from twinsite.embedded.credentials import ensure_secrets, write_client_files


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_drawn_once_and_private(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path / "secrets")
    again = ensure_secrets(tmp_path / "secrets")
    assert first == again
    assert first.admin_password != first.node_token
    assert len(first.admin_password) >= 32
    assert first.node_token_path.read_text().strip() == first.node_token
    assert mode(tmp_path / "secrets") == 0o700
    assert {mode(path) for path in (tmp_path / "secrets").iterdir()} == {0o600}
    assert first.admin_password not in repr(first)
    assert first.node_token not in repr(first)


def test_client_files_say_where_and_who(tmp_path: Path) -> None:
    write_client_files(tmp_path, "http://127.0.0.1:8776", "it's a password")
    cloud = yaml.safe_load((tmp_path / "clouds.yaml").read_text())["clouds"]["twinsite"]
    assert cloud["auth"] == {
        "auth_url": "http://127.0.0.1:8776/identity/v3",
        "username": "admin",
        "password": "it's a password",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    assert cloud["region_name"] == "RegionOne"
    command = f'set -eu; . {tmp_path}/openrc; echo "$OS_PASSWORD|$OS_AUTH_URL|$OS_REGION_NAME"'
    shown = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, timeout=20).stdout
    assert shown == "it's a password|http://127.0.0.1:8776/identity/v3|RegionOne\n"
    assert {mode(tmp_path / name) for name in ("clouds.yaml", "openrc")} == {0o600}
