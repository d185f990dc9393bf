"""The application around the calls: OpenAPI page, unexpected errors, health."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.controller import PAIRS, WAIT_SECONDS_MAX, Site, make_settings, serve, until
from tests.support.fake_node import FakeNode
from twinsite import pidfile
from twinsite.control import controller as controller_module


async def test_an_unexpected_error_is_a_500_and_a_trace_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(site.controller.pairs, "show", broken)
    with caplog.at_level(logging.ERROR):
        answer = await site.call("GET", f"{PAIRS}/x")
    assert answer.status_code == 500
    message = answer.json()["computeFault"]["message"]
    request_id = answer.headers["x-openstack-request-id"]
    assert message.startswith("EVS.5500: ")
    assert request_id in message
    assert "secret" not in answer.text
    assert request_id in caplog.text
    assert "RuntimeError: a secret detail" in caplog.text


async def test_health_tells_which_nodes_are_there(site: Site) -> None:
    anonymous = {"X-Auth-Token": ""}
    answer = await site.http.get("/healthz", headers=anonymous)
    assert answer.json() == {"status": "ok", "sites": {"az1": True, "az2": True}}
    site.controller.context.presence.silence_seconds = 0.0
    answer = await site.http.get("/healthz", headers=anonymous)
    assert answer.json()["sites"] == {"az1": False, "az2": False}


async def test_readiness_is_that_of_the_database_and_of_the_process(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymous = {"X-Auth-Token": ""}
    answer = await site.http.get("/readyz", headers=anonymous)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    with monkeypatch.context() as patch:
        patch.setattr(controller_module, "READY_SECONDS_MAX", 0.0)
        answer = await site.http.get("/readyz", headers=anonymous)
        assert answer.status_code == 503
        assert "database" in answer.text
    await site.controller.context.wakeups.close()
    answer = await site.http.get("/readyz", headers=anonymous)
    assert answer.status_code == 503
    assert "about to end" in answer.text


async def test_every_call_has_a_request_id_of_its_own(site: Site) -> None:
    answers = [await site.http.get(path) for path in ("/", "/docs", "/nothing", f"/v2/{site.project_id}/volumes")]
    identifiers = {answer.headers["x-openstack-request-id"] for answer in answers}
    assert len(identifiers) == len(answers)


async def test_the_end_of_the_server_does_not_wait_for_held_polls(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serve(settings) as (server, url), httpx.AsyncClient(base_url=url) as http:
        node = FakeNode(http, "az1", (settings.secrets_dir / "node-token").read_text().strip())
        await node.post()
        poll = asyncio.create_task(node.post(wait_seconds=30))
        await until(lambda: bool(server.server_state.tasks))
        await server.let_waiters_go()
        # The poll is answered, and not cut off: the node loses nothing.
        async with asyncio.timeout(10):
            assert (await poll).generation == node.generation


async def test_a_node_that_hangs_up_is_let_go(site: Site) -> None:
    poll = asyncio.create_task(site.az1.post(wait_seconds=30))
    await asyncio.sleep(0)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert (await site.http.get("/healthz")).status_code == 200


async def start_process(directory: Path, port: int = 0) -> asyncio.subprocess.Process:
    """Run the controller as a process of its own."""
    script = (
        "import sys, pathlib; from twinsite.logs import configure_logs; configure_logs(); "
        "from twinsite.api.server import run_controller; "
        "run_controller(pathlib.Path(sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(directory), str(port), stderr=asyncio.subprocess.PIPE
    )


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    """Read the log until a line holds `text`; return that line."""
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while line := (await process.stderr.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"the process ended without saying {text!r}")


async def test_the_process_ends_on_sigterm_and_holds_its_pid_file(tmp_path: Path) -> None:
    process = await start_process(tmp_path)
    line = await read_until(process, "controller is ready")
    assert pidfile.living_pid(tmp_path / "controller/run/controller.pid") == process.pid
    port = int(re.sub(r"\x1b\[[0-9;]*m", "", line).rpartition("port=")[2])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        node = FakeNode(http, "az1", (tmp_path / "secrets/node-token").read_text().strip())
        await node.post()
        poll = asyncio.create_task(node.post(wait_seconds=30))
        second = await start_process(tmp_path)
        await read_until(second, "AlreadyRunningError")
        assert await second.wait() != 0

        process.terminate()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await poll
            assert await process.wait() == 0
    assert pidfile.living_pid(tmp_path / "controller/run/controller.pid") is None
    for secret in ("admin-password", "node-token"):
        assert (tmp_path / "secrets" / secret).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "controller").stat().st_mode & 0o077 == 0


async def test_a_port_in_use_ends_the_process_with_a_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await start_process(tmp_path, taken.getsockname()[1])
        await read_until(process, "address already in use")
        assert await process.wait() != 0
