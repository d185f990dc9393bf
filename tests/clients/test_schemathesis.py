"""schemathesis reads the OpenAPI document of a live server and holds the server to it, with all its checks."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.support.controller import Site, make_settings, serve
from tests.support.fake_node import running

SEED = int(os.environ.get("TWINSITE_TEST_SEED", "1"))
RUN_SECONDS_MAX = 1200
"""Far more than a run takes on a machine that has other things to do."""
EXAMPLES = 5
"""Cases of each operation that are made at random, beside those that cover each constraint of its schema."""
REPOSITORY = Path(__file__).parents[2]


async def run(site: Site, url: str, token: str, paths: str, others: dict[str, str]) -> tuple[int, str]:
    """Run schemathesis against a server, on the paths of this pattern; return its exit status and what it says."""
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}",
        "TWINSITE_URL": url,
        "TWINSITE_PROJECT": site.project_id,
        **others,
        "TWINSITE_TOKEN": token,
        "TWINSITE_PASSWORD": site.password,
    }
    config = REPOSITORY / "tests/support/schemathesis.toml"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json"]
    command += ["--header", f"X-Auth-Token: {token}", "--seed", str(SEED), "--checks", "all", "--continue-on-failure"]
    command += ["--max-examples", str(EXAMPLES), "--no-color"]
    command += ["--include-path-regex", paths]
    with tempfile.TemporaryDirectory(prefix="ts-") as directory:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment, cwd=directory
        )
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def own_id(http: httpx.AsyncClient) -> str:
    """Return the id of the user who is logged in."""
    token = http.headers["X-Auth-Token"]
    answer = await http.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
    return str(answer.json()["token"]["user"]["id"])


async def spares(http: httpx.AsyncClient) -> dict[str, str]:
    """Make a project and a user with which anything may be done; return their ids as schemathesis.toml names them."""
    made = {}
    for kind in ("project", "user"):
        answer = await http.post(f"/identity/v3/{kind}s", json={kind: {"name": "spare"}})
        assert answer.status_code == 201, answer.text
        made[f"TWINSITE_SPARE_{kind.upper()}"] = str(answer.json()[kind]["id"])
    return made


@pytest.mark.parametrize("paths", ["^(?!/v3/)", "^/v3/"], ids=["all but v3", "v3"])
async def test_the_server_is_as_its_document_says(tmp_path: Path, paths: str) -> None:
    print(f"TWINSITE_TEST_SEED={SEED}")
    waits = {"stop_wait_seconds": 2.0, "connect_wait_seconds": 2.0, "extend_wait_seconds": 2.0}
    settings = make_settings(tmp_path, extend_room_seconds=1.0, quota_volumes=10**6, quota_gigabytes=2**40, **waits)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url, timeout=30) as http:
        site = Site(server.app, http, settings)
        await site.log_in()
        others = {"TWINSITE_USER": await own_id(http), **await spares(http)}
        token = str(http.headers.pop("X-Auth-Token"))
        async with running(site.az1, site.az2):
            status, output = await run(site, url, token, paths, others)
    print(output)
    assert status == 0, output
    links = re.search(r"API Links: +([0-9]+) covered / ([0-9]+) selected", output)
    assert links is not None, output
    # Which links a run of this length follows is the seed's choice; none at all would be no test of them.
    assert int(links[1]) * 2 >= int(links[2]) > 0, output
