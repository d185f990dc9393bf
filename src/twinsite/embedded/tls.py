"""The certificates of `up --tls`: made at the start, and kept from expiring while it runs."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from twinsite.control.settings import ControllerSettings
from twinsite.embedded.certificates import TlsFiles, ensure_certificates, names_of_this_machine
from twinsite.errors import ConfigurationError

DIRECTORY = "tls"
RENEW_SECONDS = 6 * 3600.0
"""How often the certificates are looked at. They are made anew weeks before they expire."""

_log = structlog.get_logger(__name__)


class Tls:
    """The certificates of one installation, for the names of its machine and of the settings."""

    def __init__(self, data_dir: Path, host: str, settings: ControllerSettings) -> None:
        """Keep them below `data_dir`, for an API that listens on `host`."""
        self.files = TlsFiles(data_dir / DIRECTORY)
        public_host = urlsplit(settings.public_url).hostname if settings.public_url else None
        self._extra = [name for name in (host, public_host) if name and name not in ("0.0.0.0", "::")]

    def ensure(self, *, is_running: bool = False) -> None:
        """Let there be good ones; nodes that run know the authority that there is. Raises `ConfigurationError`."""
        names = names_of_this_machine(self._extra)
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificates(self.files, names, now, may_replace_authority=not is_running)

    async def keep(self) -> None:
        """Keep them good, for ever. What fails is logged and tried again: the old ones are good for weeks."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await asyncio.to_thread(self.ensure, is_running=True)
            except ConfigurationError as error:
                _log.error("the certificates cannot be renewed", error=str(error))
