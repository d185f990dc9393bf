"""`python -m twinsite.worker`: started by a node, in a session of its own."""

from __future__ import annotations

import twinsite.worker.lean_imports  # noqa: F401 - Before anything that imports structlog.

# isort: split
import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import structlog
import uvloop

from twinsite.errors import TwinsiteError
from twinsite.pidfile import PidFile
from twinsite.worker.lean_memory import give_memory_back, keep_memory_at_hand
from twinsite.worker.worker import Worker


def main() -> int:
    """Run a worker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m twinsite.worker", description=__doc__)
    parser.add_argument("--id", required=True, help="the group's id, or the volume's")
    parser.add_argument("--run-dir", required=True, type=Path, help="for <id>.pid and <id>.ctl")
    parser.add_argument("--state-dir", required=True, type=Path, help="for the durable state of this worker")
    arguments = parser.parse_args()
    keep_memory_at_hand()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    try:
        with PidFile(arguments.run_dir / f"{arguments.id}.pid"):
            worker_main = _run(arguments.id, arguments.run_dir / f"{arguments.id}.ctl", arguments.state_dir)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(worker_main)
    except (TwinsiteError, OSError) as error:
        print(f"twinsite worker {arguments.id}: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(worker_id: str, control_path: Path, state_directory: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = Worker(worker_id, control_path, state_directory, came_to_rest=give_memory_back)
    await worker.run(stop)


if __name__ == "__main__":
    sys.exit(main())
