"""Users, projects and roles as administrators make them, and what taking them away ends."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.accounts import make_project, make_token
from tests.support.controller import Json, Site, make_settings, open_site
from tests.support.site_fixtures import Prepared
from twinsite.control.login_limits import LoginLimits
from twinsite.control.passwords import PASSWORD_BYTES_MAX
from twinsite.control.repository import quotas

IDENTITY = "/identity/v3"
TOKENS = f"{IDENTITY}/auth/tokens"
NOBODY = "0" * 32
PASSWORD = "correct horse"


async def identity(site: Site, method: str, path: str, body: object = None, **kwargs: Any) -> httpx.Response:
    """Make a call of the identity interface."""
    return await site.http.request(method, f"{IDENTITY}{path}", json=body, **kwargs)


async def made(site: Site, path: str, key: str, **fields: object) -> Json:
    """Make a user, project or role; return it."""
    answer = await identity(site, "POST", path, {key: fields})
    assert answer.status_code == 201, answer.text
    shown: Json = answer.json()[key]
    path = f"{path}/{shown['id']}"
    assert (await identity(site, "GET", path)).json()[key] == shown
    return shown


async def role_id(site: Site, name: str) -> str:
    """Return the id of a role."""
    (role,) = (await identity(site, "GET", f"/roles?name={name}")).json()["roles"]
    return str(role["id"])


async def tenant(site: Site, role: str = "member") -> tuple[Json, Json]:
    """Make a user with a password and a role on a new project; return both."""
    user = await made(site, "/users", "user", name="alice", password=PASSWORD)
    project = await made(site, "/projects", "project", name="shop", description="of Alice")
    await give(site, user, project, role)
    return user, project


def grant_path(user: Json, project: Json, role: str) -> str:
    """Return the path of a role that a user has."""
    return f"/projects/{project['id']}/users/{user['id']}/roles/{role}"


async def give(site: Site, user: Json, project: Json, role: str) -> None:
    """Give a user a role on a project."""
    path = grant_path(user, project, await role_id(site, role))
    assert (await identity(site, "PUT", path)).status_code == 204


async def log_in(site: Site, user: Json, password: str = PASSWORD, scope: object = "unscoped") -> httpx.Response:
    """Log a user in."""
    named = {"id": user["id"], "password": password}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": named}}, "scope": scope}}
    return await site.http.post(TOKENS, json=body)


async def token(site: Site, user: Json, project: Json | None = None) -> str:
    """Log a user in to a project, or to none; return the token."""
    scope: object = "unscoped" if project is None else {"project": {"id": project["id"]}}
    answer = await log_in(site, user, scope=scope)
    assert answer.status_code == 201, answer.text
    return answer.headers["x-subject-token"]


async def is_good(site: Site, text: str) -> bool:
    """Say whether a token is good."""
    answer = await site.http.get(f"{IDENTITY}/auth/catalog", headers={"X-Auth-Token": text})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def test_a_tenant_from_its_making_to_its_first_disk(site: Site) -> None:
    user, project = await tenant(site)
    assert (user["name"], user["enabled"], user["domain_id"]) == ("alice", True, "default")
    assert not [key for key in user if "password" in key and key != "password_expires_at"]
    headers = {"X-Auth-Token": await token(site, user, project)}
    volume = {"volume": {"size": 1, "availability_zone": "az1"}}
    answer = await site.http.post(f"/v3/{project['id']}/volumes", json=volume, headers=headers)
    assert (answer.status_code, answer.json()["volume"]["user_id"]) == (202, user["id"])
    # Only administrators make users.
    answer = await identity(site, "POST", "/users", {"user": {"name": "eve"}}, headers=headers)
    assert answer.status_code == 403
    # What is one's own may be seen, what is another's may not.
    assert (await identity(site, "GET", f"/users/{user['id']}", headers=headers)).status_code == 200
    admin = site.http.headers["X-Auth-Token"]
    admin_id = (await site.http.get(TOKENS, headers={"X-Subject-Token": admin})).json()["token"]["user"]["id"]
    assert (await identity(site, "GET", f"/users/{admin_id}", headers=headers)).status_code == 403
    listed = await identity(site, "GET", "/projects", headers=headers)
    assert [item["name"] for item in listed.json()["projects"]] == ["shop"]
    assert (await identity(site, "GET", f"/projects/{site.project_id}", headers=headers)).status_code == 404
    answer = await identity(site, "DELETE", f"/projects/{project['id']}")
    assert answer.status_code == 409, "it has a volume"


async def test_names_are_unique_and_of_sane_length(site: Site) -> None:
    user, project = await tenant(site)
    wrong: list[tuple[str, str, Json, int]] = [
        ("/users", "user", {"name": "alice"}, 409),
        ("/projects", "project", {"name": "shop"}, 409),
        ("/roles", "role", {"name": "member"}, 409),
        ("/users", "user", {}, 400),
        ("/users", "user", {"name": " "}, 400),
        ("/users", "user", {"name": "é" * 128}, 400),
        ("/users", "user", {"name": 3}, 400),
        ("/users", "user", {"name": "x", "description": "é" * 128}, 400),
        ("/users", "user", {"name": "x", "email": "é" * 128}, 400),
        ("/users", "user", {"name": "x", "password": ""}, 400),
        ("/users", "user", {"name": "x", "password": "é" * PASSWORD_BYTES_MAX}, 400),
        ("/users", "user", {"name": "x", "domain_id": NOBODY}, 404),
        ("/users", "user", {"name": "x", "default_project_id": NOBODY}, 404),
        ("/projects", "project", {"name": "x", "parent_id": project["id"], "domain_id": "default"}, 400),
        ("/projects", "project", {"name": "x", "is_domain": True}, 400),
    ]
    for path, key, fields, status in wrong:
        answer = await identity(site, "POST", path, {key: fields})
        assert answer.status_code == status, (fields, answer.text)
    other = await made(site, "/users", "user", name="bob")
    answer = await identity(site, "PATCH", f"/users/{other['id']}", {"user": {"name": "alice"}})
    assert answer.status_code == 409
    answer = await identity(site, "PATCH", f"/users/{user['id']}", {"user": {"name": "alice", "email": "a@b.c"}})
    assert (answer.status_code, answer.json()["user"]["email"]) == (200, "a@b.c")
    for name, count in (("alice", 1), ("bob", 1), ("eve", 0)):
        found = (await identity(site, "GET", f"/users?name={name}&enabled=true")).json()["users"]
        assert len(found) == count
    for path in ("/users", "/projects", "/roles", "/domains"):
        assert (await identity(site, "GET", f"{path}/{NOBODY}")).status_code == 404
    assert (await log_in(site, other)).status_code == 401, "a user without a password cannot log in"
    assert (await log_in(site, other, "")).status_code == 401


async def test_what_ends_tokens(site: Site) -> None:
    user, project = await tenant(site)
    elsewhere = await made(site, "/projects", "project", name="elsewhere")
    await give(site, user, elsewhere, "reader")
    path = f"/users/{user['id']}"

    async def both() -> tuple[str, str, str]:
        return await token(site, user, project), await token(site, user, elsewhere), await token(site, user)

    async def good(texts: tuple[str, ...]) -> list[bool]:
        return [await is_good(site, text) for text in texts]

    # A new name ends nothing.
    texts = await both()
    assert (await identity(site, "PATCH", path, {"user": {"name": "alice2"}})).status_code == 200
    assert await good(texts) == [True, True, True]
    # A role of several: the token stays good, and can do less at once.
    await give(site, user, project, "reader")
    member = grant_path(user, project, await role_id(site, "member"))
    assert (await identity(site, "DELETE", member)).status_code == 204
    assert await good(texts) == [True, True, True]
    volume = {"volume": {"size": 1}}
    answer = await site.http.post(f"/v3/{project['id']}/volumes", json=volume, headers={"X-Auth-Token": texts[0]})
    assert answer.status_code == 403
    # The last role on a project.
    reader = grant_path(user, project, await role_id(site, "reader"))
    assert (await identity(site, "DELETE", reader)).status_code == 204
    assert await good(texts) == [False, True, True]
    assert (await log_in(site, user, scope={"project": {"id": project["id"]}})).status_code == 401
    # A project that is disabled.
    await give(site, user, project, "member")
    texts = await both()
    assert (await identity(site, "PATCH", f"/projects/{project['id']}", {"project": {"enabled": False}})).is_success
    assert await good(texts) == [False, True, True]
    assert (await log_in(site, user, scope={"project": {"id": project["id"]}})).status_code == 401
    assert (await identity(site, "PATCH", f"/projects/{project['id']}", {"project": {"enabled": True}})).is_success
    # A project that is deleted.
    assert (await identity(site, "DELETE", f"/projects/{elsewhere['id']}")).status_code == 204
    assert await good(texts) == [False, False, True]
    # A new password, and being disabled.
    for change in ({"password": "another"}, {"enabled": False}):
        text = await token(site, user)
        answer = await identity(site, "PATCH", path, {"user": change})
        assert answer.status_code == 200
        assert not await is_good(site, text)
        assert (await log_in(site, user)).status_code == 401
        await identity(site, "PATCH", path, {"user": {"password": PASSWORD, "enabled": True}})
    # Being deleted.
    text = await token(site, user)
    assert (await identity(site, "DELETE", path)).status_code == 204
    assert not await is_good(site, text)
    assert (await log_in(site, user)).status_code == 401


async def test_a_role_of_ones_own(site: Site) -> None:
    user, project = await tenant(site, "reader")
    role = await made(site, "/roles", "role", name="night-shift", description="may fail over")
    rules = site.settings.data_dir / "policy.yaml"
    rules.write_text('"volumes:create": "role:night-shift or rule:member_required"')
    path = f"/v3/{project['id']}/volumes"
    headers = {"X-Auth-Token": await token(site, user, project)}
    body = {"volume": {"size": 1}}
    assert (await site.http.post(path, json=body, headers=headers)).status_code == 403
    await give(site, user, project, "night-shift")
    assert (await site.http.post(path, json=body, headers=headers)).status_code == 202
    assert (await identity(site, "HEAD", grant_path(user, project, role["id"]))).status_code == 204
    await give(site, user, project, "night-shift")  # Twice is as good as once.
    found = (await identity(site, "GET", grant_path(user, project, "")[:-1])).json()["roles"]
    assert {item["name"] for item in found} == {"reader", "night-shift"}
    query = f"?include_names=true&user.id={user['id']}"
    listed = (await identity(site, "GET", f"/role_assignments{query}")).json()["role_assignments"]
    assert {(item["role"]["name"], item["scope"]["project"]["name"]) for item in listed} == {
        ("night-shift", "shop"),
        ("reader", "shop"),
    }
    nothing = f"/role_assignments?scope.project.id={NOBODY}"
    assert (await identity(site, "GET", nothing)).json()["role_assignments"] == []
    renamed = await identity(site, "PATCH", f"/roles/{role['id']}", {"role": {"name": "night"}})
    assert renamed.json()["role"]["name"] == "night"
    assert (await site.http.post(path, json=body, headers=headers)).status_code == 403
    assert (await identity(site, "DELETE", f"/roles/{role['id']}")).status_code == 204
    assert (await identity(site, "HEAD", grant_path(user, project, role["id"]))).status_code == 404
    assert await is_good(site, headers["X-Auth-Token"])


async def test_the_built_in_roles_stay(site: Site) -> None:
    for name in ("admin", "member", "reader"):
        path = f"/roles/{await role_id(site, name)}"
        assert (await identity(site, "DELETE", path)).status_code == 403
        assert (await identity(site, "PATCH", path, {"role": {"name": "x"}})).status_code == 403
        assert (await identity(site, "PATCH", path, {"role": {"description": "mine"}})).status_code == 200


async def test_ones_own_password(site: Site) -> None:
    user, project = await tenant(site)
    path = f"/users/{user['id']}/password"
    headers = {"X-Auth-Token": await token(site, user, project)}

    def body(original: str) -> Json:
        return {"user": {"original_password": original, "password": "battery staple"}}

    assert (await identity(site, "POST", path, body("wrong"), headers=headers)).status_code == 401
    assert (await identity(site, "POST", path, body(PASSWORD), headers=headers)).status_code == 204
    assert not await is_good(site, headers["X-Auth-Token"])
    assert (await log_in(site, user, PASSWORD)).status_code == 401
    assert (await log_in(site, user, "battery staple")).status_code == 201
    other = {"X-Auth-Token": await make_token(site, "member")}
    assert (await identity(site, "POST", path, body("battery staple"), headers=other)).status_code == 403


async def test_log_ins_that_fail_too_often(site: Site) -> None:
    user, _ = await tenant(site)
    limit = site.settings.login_failures_per_address
    # A clock that stands: nothing is forgiven while a busy machine hashes.
    site.controller.identity.limits = LoginLimits(site.settings.login_failures_per_user, limit, lambda: 0.0)
    answers = await asyncio.gather(*(log_in(site, user, "wrong") for _ in range(limit + 5)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(413)) == (limit, 5)
    late = await log_in(site, user)
    assert (late.status_code, late.headers["x-twinsite-error-code"]) == (413, "EVS.5413"), "the right one neither"
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert late.json()["overLimit"]["code"] == 413
    # Nothing else is slowed down.
    assert (await site.call("GET", "/volumes")).status_code == 200
    assert len(site.controller.identity.limits.users) == 1


async def test_right_passwords_are_never_put_off(site: Site) -> None:
    user, _ = await tenant(site)
    site.controller.identity.limits.addresses._limit = 2
    for _ in range(4):
        assert (await log_in(site, user)).status_code == 201


async def test_who_exists_cannot_be_told_by_the_work_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown user, one without a password and a wrong password cost one check of a full hash each."""
    async with open_site(make_settings(tmp_path / "data"), is_real=True) as site:
        user, _ = await tenant(site)
        bare = await made(site, "/users", "user", name="bare")
        passwords = site.controller.identity._passwords
        checked: list[str] = []
        real = passwords._verify

        def counted(password_hash: str, password: str) -> bool:
            checked.append(password_hash)
            return real(password_hash, password)

        monkeypatch.setattr(passwords, "_verify", counted)
        texts = set()
        for who in (user, bare, {"id": NOBODY}):
            answer = await log_in(site, who, "wrong")
            texts.add((answer.status_code, answer.text))
        assert len(texts) == 1
        assert len(checked) == 3
        parameters = {text.rpartition("$")[0].rpartition("$")[0] for text in checked}
        assert parameters == {"$argon2id$v=19$m=65536,t=3,p=4"}
        # The admin's hash stands in for those who have none; the admin's password opens nothing of theirs.
        for who in (bare, {"id": NOBODY}):
            assert (await log_in(site, who, site.password)).status_code == 401


async def test_a_change_while_the_password_is_checked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log-in that began with the old password does not end with a token after that was changed."""
    user, _ = await tenant(site)
    passwords = site.controller.identity._passwords
    real = passwords.matches

    async def slowly(password_hash: str | None, password: str) -> bool:
        right = await real(password_hash, password)
        changed = await site.controller.directory.change_user(user["id"], {}, "another")
        assert changed.password_hash != password_hash
        return right

    monkeypatch.setattr(passwords, "matches", slowly)
    assert (await log_in(site, user)).status_code == 401


async def test_everything_survives_a_restart(prepared: Prepared, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(prepared.directory, directory)
    async with open_site(make_settings(directory), prepared.token) as first:
        user, project = await tenant(first)
        text = await token(first, user, project)
        revoked = await token(first, user, project)
        assert (await first.http.delete(TOKENS, headers={"X-Subject-Token": revoked})).status_code == 204
        # Somebody locks the admin out.
        admin = (await identity(first, "GET", "/users?name=admin")).json()["users"][0]
        assert (await identity(first, "PATCH", f"/users/{admin['id']}", {"user": {"enabled": False}})).is_success
    async with open_site(make_settings(directory)) as second:
        assert await is_good(second, text)
        assert not await is_good(second, revoked)
        assert (await log_in(second, user)).status_code == 201
    stored = (directory / "controller/twinsite.db").read_bytes()
    for path in (directory / "controller").glob("twinsite.db*"):
        stored += path.read_bytes()
    assert text.encode() not in stored
    assert PASSWORD.encode() not in stored


async def test_a_project_can_be_made_for_what_another_left(site: Site) -> None:
    """A project that is deleted takes its quotas along."""
    project_id = await make_project(site, "short")
    limits = {"quota_set": {"volumes": 1}}
    assert (await site.call("PUT", f"/os-quota-sets/{project_id}", limits)).status_code == 200
    assert (await identity(site, "DELETE", f"/projects/{project_id}")).status_code == 204
    async with site.controller.context.database.read() as session:
        assert await quotas.limits(session, project_id) == {}
