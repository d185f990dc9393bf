"""The command `openstack` without its start: a process that has loaded it runs each command in a child of its own.

To load it takes a hundred times what a command does then. Reads a line for each command, JSON with `environment` and
`arguments`, and answers a line: a JSON list of exit status, output and errors. A child begins as the process was before
any command, so that none sees another one's traces. Ends with its standard input.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile

from openstackclient import shell

NOBODY = {
    "OS_AUTH_URL": "http://127.0.0.1:9/v3",  # Where nobody listens.
    "OS_USERNAME": "nobody",
    "OS_PASSWORD": "none",
    "OS_PROJECT_NAME": "none",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
}


def main() -> None:
    """Serve until nobody asks any more."""
    os.environ.update(NOBODY)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        shell.OpenStackShell().run(["volume", "list"])  # It fails, and loads what the others need.
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["environment"], asked["arguments"])), flush=True)


def run(environment: dict[str, str], arguments: list[str]) -> tuple[int, str, str]:
    """Run a command in a child; return its exit status, its output and its errors."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            become(environment, arguments)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
        return os.waitstatus_to_exitcode(status), texts[0], texts[1]


def become(environment: dict[str, str], arguments: list[str]) -> None:
    """Be the command. Does not return."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["openstack", *arguments]
        status = int(shell.main(arguments) or 0)
    except SystemExit as end:  # argparse ends the process for wrong usage.
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
