"""What workers leave behind at a site when their group is deleted: durable state and a log."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path

import structlog

from twinsite.node.settings import NodeSettings
from twinsite.pidfile import living_pid

log = structlog.get_logger(__name__)


class Remains:
    """Removes what ended workers left, on the controller's word alone. Calls of `remove` block."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._removed: set[str] = set()

    def remove(self, worker_id: str) -> bool:
        """Remove all of a worker that has ended and never comes back; return whether nothing is left. Idempotent."""
        if worker_id in self._removed:
            return True
        if not _is_id(worker_id):
            log.error("a worker that cannot be is to be removed", worker=worker_id)
            return False
        if living_pid(self._settings.worker_run_dir / f"{worker_id}.pid") is not None:
            return False  # It hangs in the kernel and could not be ended; its files are still its own.
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self._settings.worker_state_dir(worker_id))
            for path in self._files(worker_id):
                path.unlink(missing_ok=True)
        except OSError as error:
            log.error("what a worker left cannot be removed", worker=worker_id, reason=str(error))
            return False
        self._removed.add(worker_id)
        log.info("what a worker left is removed", worker=worker_id)
        return True

    def removed(self) -> list[str]:
        """Return the workers of which nothing is left, for as long as the controller asks."""
        return sorted(self._removed)

    def forget_removed(self, listed_ids: set[str]) -> None:
        """Drop those that the controller no longer lists: it knows."""
        self._removed &= listed_ids

    def _files(self, worker_id: str) -> list[Path]:
        run_dir = self._settings.worker_run_dir
        return [self._settings.log_dir / f"{worker_id}.log", run_dir / f"{worker_id}.pid", run_dir / f"{worker_id}.ctl"]


def _is_id(text: str) -> bool:
    """Say whether this is an id, and so cannot lead out of the directories."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
