"""Many `openstack` commands in one process: importing that client takes longer than what it does.

As a script it reads a JSON list of commands from standard input, runs each as the shell would, with the environment's
credentials or those that the command begins with (`--os-username` …), and prints a JSON list of what they printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMAND_SECONDS_MAX = 120.0


@dataclasses.dataclass(frozen=True)
class Result:
    """How one command ended."""

    status: int
    output: str
    errors: str

    @property
    def shown(self) -> Any:
        """Return the output of a command that was asked for JSON."""
        assert self.status == 0, self.errors
        return json.loads(self.output)


def auth_environment(auth_url: str, user: str, password: str, project: str) -> dict[str, str]:
    """Return the variables that log a user of the default domain in."""
    return {
        "OS_AUTH_URL": auth_url,
        "OS_USERNAME": user,
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": project,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_IDENTITY_API_VERSION": "3",
    }


async def openstack(environment: Mapping[str, str], home: Path, *commands: Sequence[str]) -> list[Result]:
    """Run commands one after the other, whatever becomes of each."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS_MAX):
            output, errors = await process.communicate(json.dumps([list(command) for command in commands]).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, errors.decode()
    return [Result(*result) for result in json.loads(output)]


def main() -> None:
    """Run as a script."""
    from openstackclient import shell  # noqa: PLC0415

    results = []
    for command in json.load(sys.stdin):
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                status = shell.OpenStackShell().run(command)
            except SystemExit as end:  # argparse ends the process for wrong usage.
                status = int(end.code or 0)
        logging.getLogger().handlers.clear()  # They hold this command's standard error.
        results.append((status, output.getvalue(), errors.getvalue()))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
