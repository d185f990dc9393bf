"""A real Keystone for tests: from PyPI, in a virtual environment of its own, on SQLite, with Fernet tokens.

The environment and an empty, bootstrapped database are made once and kept in the user's cache; each Keystone works on
a copy, and is served by `keystone_server.py`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

REQUIREMENTS = Path(__file__).with_name("keystone-requirements.txt")
SERVER = Path(__file__).with_name("keystone_server.py")
PASSWORD = "secret of the admin"
SERVICE_PASSWORD = "secret of the service"
MAKE_SECONDS_MAX = 600.0
START_SECONDS_MAX = 120.0
_CONFIGURATION = """
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {directory}/keys
[fernet_receipts]
key_repository = {directory}/keys
[identity]
password_hash_rounds = 4
"""


def _cache() -> Path:
    """Return where what these requirements give is kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    content = REQUIREMENTS.read_bytes() + f"{_CONFIGURATION} {sys.version}".encode()
    return base / "twinsite-tests" / f"keystone-{hashlib.sha256(content).hexdigest()[:16]}"


def _environment(directory: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(directory), "OS_KEYSTONE_CONFIG_DIR": str(directory)}


def _configure(directory: Path) -> None:
    (directory / "keystone.conf").write_text(_CONFIGURATION.format(directory=directory))
    (directory / "keys").mkdir(exist_ok=True)
    for number in ("0", "1"):
        (directory / "keys" / number).write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))


def _prepared() -> Path:
    """Return the cache, made if need be; tests that run side by side wait for the one that makes it."""
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / "complete").exists():
            _make(cache)
            (cache / "complete").touch()
    return cache


def _make(cache: Path) -> None:
    for name in ("venv", "template"):
        shutil.rmtree(cache / name, ignore_errors=True)
    uv = shutil.which("uv") or str(Path(__file__).parents[2] / ".uv-venv/bin/uv")

    def run(*command: str, **variables: str) -> None:
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=MAKE_SECONDS_MAX,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-4000:]

    run(uv, "venv", "--quiet", "--python", sys.executable, str(cache / "venv"))
    run(uv, "pip", "install", "--quiet", "-r", str(REQUIREMENTS), VIRTUAL_ENV=str(cache / "venv"))
    template = cache / "template"
    template.mkdir()
    _configure(template)
    manage = (str(cache / "venv/bin/keystone-manage"), "--config-file", str(template / "keystone.conf"))
    run(*manage, "db_sync", **_environment(template))
    run(*manage, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", "RegionOne")


@dataclass
class Keystone:
    """A Keystone that runs. `auth_url` ends in /v3."""

    process: subprocess.Popen[bytes]
    auth_url: str

    def log_in(self, user: str, password: str, project: str | None = None) -> str:
        """Return a token of a user of the default domain."""
        domain = {"id": "default"}
        named = {"name": user, "domain": domain, "password": password}
        body: dict[str, object] = {"identity": {"methods": ["password"], "password": {"user": named}}}
        if project is not None:
            body["scope"] = {"project": {"name": project, "domain": domain}}
        answer = httpx.post(f"{self.auth_url}/auth/tokens", json={"auth": body}, trust_env=False, timeout=60)
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def admin(self) -> httpx.Client:
        """Return a client that is logged in as the administrator."""
        token = self.log_in("admin", PASSWORD, "admin")
        headers = {"X-Auth-Token": token}
        return httpx.Client(base_url=self.auth_url, headers=headers, trust_env=False, timeout=60)

    def set_up(self, api_url: str) -> dict[str, str]:
        """Make a service user for Twinsite at `api_url`, its catalogue, and a tenant for each role; return their ids.

        The tenants alice (member), bob (reader) and carol (no role that a rule knows) have the project shop.
        """
        with self.admin() as http:

            def made(path: str, key: str, **fields: object) -> str:
                answer = http.post(path, json={key: fields})
                assert answer.status_code == 201, answer.text
                return str(answer.json()[key]["id"])

            roles = {role["name"]: role["id"] for role in http.get("/roles").json()["roles"]}
            roles["observer"] = made("/roles", "role", name="observer")
            ids = {
                "service": made("/projects", "project", name="service"),
                "shop": made("/projects", "project", name="shop"),
            }
            for user, project, role in (
                ("twinsite", "service", "service"),
                ("alice", "shop", "member"),
                ("bob", "shop", "reader"),
                ("carol", "shop", "observer"),
            ):
                password = SERVICE_PASSWORD if user == "twinsite" else f"secret of {user}"
                ids[user] = made("/users", "user", name=user, password=password)
                path = f"/projects/{ids[project]}/users/{ids[user]}/roles/{roles[role]}"
                assert http.put(path).status_code == 204
            services = {
                "identity": self.auth_url,
                "volumev2": f"{api_url}/v2/$(project_id)s",
                "volumev3": f"{api_url}/v3/$(project_id)s",
                "block-storage": f"{api_url}/v3/$(project_id)s",
            }
            for kind, url in services.items():
                service = made("/services", "service", type=kind, name=kind)
                made("/endpoints", "endpoint", service_id=service, interface="public", region_id="RegionOne", url=url)
        return ids


@contextlib.contextmanager
def serve_keystone(directory: Path) -> Iterator[Keystone]:
    """Run a Keystone of its own in a directory that is empty."""
    cache = _prepared()
    shutil.copytree(cache / "template", directory, dirs_exist_ok=True)
    _configure(directory)
    with (directory / "keystone.log").open("wb") as log:
        process = subprocess.Popen(
            [str(cache / "venv/bin/python"), "-P", "-W", "ignore", str(SERVER)],
            env=_environment(directory),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    watchdog = threading.Timer(START_SECONDS_MAX, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        watchdog.cancel()
        assert port, (directory / "keystone.log").read_text()[-4000:]
        yield Keystone(process, f"http://127.0.0.1:{port}/v3")
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
