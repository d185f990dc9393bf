"""The command `openstack`, as it is installed beside the interpreter that runs the tests."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

COMMAND_SECONDS_MAX = 120.0


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    output: str
    errors: str


def environment_for(url: str, password: str, home: Path) -> dict[str, str]:
    """Return the variables of a user of the API at `url`."""
    passed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {
        **passed,
        "HOME": str(home),
        "OS_AUTH_URL": f"{url}/identity/v3",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_IDENTITY_API_VERSION": "3",
    }


async def run_openstack(environment: dict[str, str], *arguments: str) -> Done:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "openstack"),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(COMMAND_SECONDS_MAX):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, output.decode(), errors.decode())


async def openstack(environment: dict[str, str], *arguments: str) -> Any:
    """Run a command that is expected to succeed; return its JSON output, or None when it has none."""
    done = await run_openstack(environment, *arguments)
    assert done.status == 0, (arguments, done.errors)
    return json.loads(done.output) if done.output.strip() else None
