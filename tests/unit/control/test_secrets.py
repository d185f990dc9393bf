"""Secrets: files, password hashes, stored tokens."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from tests.support.controller import Site, login_body, make_settings, open_site
from twinsite.control.clock import utc_now
from twinsite.control.secret_files import read_or_create_secret
from twinsite.errors import ConfigurationError

TOKENS = "/identity/v3/auth/tokens"


def test_a_secret_is_made_up_once(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "token"
    secret = read_or_create_secret(path)
    assert len(secret) >= 32
    assert read_or_create_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert read_or_create_secret(tmp_path / "secrets" / "other") != secret


def test_a_given_secret_is_taken_without_white_space(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  given \n")
    assert read_or_create_secret(path) == "given"
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        read_or_create_secret(path)


async def test_neither_password_nor_token_can_be_read_from_the_database(site: Site) -> None:
    token = site.http.headers["X-Auth-Token"]
    async with site.controller.context.database.write() as session:
        await (await session.connection()).exec_driver_sql("SELECT 1")
    files = list((site.settings.data_dir / "controller").glob("twinsite.db*"))
    content = b"".join(file.read_bytes() for file in files)
    assert hashlib.sha256(token.encode()).hexdigest().encode() in content
    assert token.encode() not in content
    assert site.password.encode() not in content
    assert b"$argon2id$" in content


async def test_an_expired_token_is_refused_and_forgotten(site: Site) -> None:
    volumes = f"/v2/{site.project_id}/volumes"
    assert (await site.http.get(volumes)).status_code == 200
    database = site.settings.data_dir / "controller" / "twinsite.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE tokens SET expires_at = ?", (str(utc_now()),))
    connection.close()
    answer = await site.http.get(volumes)
    assert answer.status_code == 401
    assert answer.headers["x-twinsite-error-code"] == "Common.0013"
    assert (await site.http.post(TOKENS, json=login_body(site.password))).status_code == 201
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
    connection.close()


async def test_the_password_is_that_of_the_file_at_each_start(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with open_site(settings) as site:
        old = site.password
    (tmp_path / "secrets" / "admin-password").write_text("changed\n")
    async with open_site(settings) as site:
        assert site.password == "changed"
        assert (await site.http.post(TOKENS, json=login_body(old))).status_code == 401
