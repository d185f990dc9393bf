"""Client files of an installation."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import yaml

from twinsite.embedded.credentials import Login, write_client_files


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_client_files_say_where_and_who(tmp_path: Path) -> None:
    login = Login("http://127.0.0.1:8776", "admin", "it's a password", "admin", "RegionOne")
    write_client_files(tmp_path, login)
    assert "it's" not in repr(login)
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
