"""Loses a site of an `up` on purpose, as a power cut would take it, and brings it back: for rehearsals of a disaster.

What marks a site as lost is a file in its directory, so the site stays lost over restarts of `up` until it is brought
back, and whoever looks at the directory sees why nothing runs there.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from twinsite.errors import ConfigurationError
from twinsite.node.settings import sites_of
from twinsite.pidfile import living_pid, living_process

LOOK_SECONDS = 0.2
"""How often `up` looks whether a lost site was brought back."""
KILL_SECONDS_MAX = 5.0
"""A process that has not ended this long after SIGKILL hangs in the kernel."""

_MARK = "lost-for-rehearsal"


def is_lost(site_dir: Path) -> bool:
    """Say whether the site with this directory was lost on purpose and not brought back yet."""
    return (site_dir / _MARK).exists()


async def until_back(site_dir: Path) -> None:
    """Return once the site is not lost on purpose, or not any more."""
    while is_lost(site_dir):  # noqa: ASYNC110 - another process brings it back.
        await asyncio.sleep(LOOK_SECONDS)


def lose_site(data_dir: Path, site: str) -> int:
    """Kill a site's node and all its workers at once, and keep them from being started again; return how many died.

    Idempotent. Raises `ConfigurationError` when no `up` runs on the directory, or it has no such site.
    """
    site_dir = _site_dir(data_dir, site)
    if living_pid(data_dir / "up.pid") is None:
        raise ConfigurationError(f"no 'twinsite up' runs on {data_dir}; start it, or name its directory with --data")
    (site_dir / _MARK).touch()
    # The node first: it would start workers again.
    killed = _kill(site_dir / "run" / "node.pid")
    return killed + sum(_kill(path) for path in sorted((site_dir / "run" / "w").glob("*.pid")))


def return_site(data_dir: Path, site: str) -> bool:
    """Let a lost site be started again; say whether it was lost. Raises `ConfigurationError` for an unknown site."""
    mark = _site_dir(data_dir, site) / _MARK
    was_lost = mark.exists()
    mark.unlink(missing_ok=True)
    return was_lost


def _site_dir(data_dir: Path, site: str) -> Path:
    names = sites_of(data_dir)
    if site not in names:
        known = f"there are {', '.join(names)}" if names else "none was ever started there; name it with --data"
        raise ConfigurationError(f"{data_dir} has no site {site!r}; {known}")
    return data_dir / site


def _kill(pid_path: Path) -> int:
    process = living_process(pid_path)
    if process is None:
        return 0
    with process:
        process.send_signal(signal.SIGKILL)
        if not process.wait(KILL_SECONDS_MAX):
            raise ConfigurationError(f"the process of {pid_path} does not end even when killed")
    return 1
