"""The certificate that the API shows, and its renewal under a running server."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Self

import structlog

from twinsite.control.settings import ControllerSettings
from twinsite.errors import ConfigurationError

LOOK_SECONDS = 10.0
"""How often the files are looked at."""

_log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class ServerCertificate:
    """A certificate and its key. `context` shows them to whoever connects; `watch` keeps it up to date."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Read both. Raises `ConfigurationError` when they cannot be used."""
        self._certificate = certificate
        self._key = key
        self._stamp = self._look()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context)

    @classmethod
    def of(cls, settings: ControllerSettings) -> Self | None:
        """Return the settings' certificate, None when they name none."""
        return None if settings.tls_certificate is None else cls(settings.tls_certificate, settings.tls_key)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # A key with a pass phrase would make the process wait at a terminal that nobody sees.
            context.load_cert_chain(self._certificate, self._key, password=_no_pass_phrase)
        except OSError as error:
            files = f"{self._certificate}" + (f" and {self._key}" if self._key is not None else "")
            raise ConfigurationError(f"the certificate of the API in {files} cannot be used: {error}") from error

    def _look(self) -> Stamp:
        """Return what changes whenever the files do; of a file that is not there nothing is known."""
        found = []
        for path in filter(None, (self._certificate, self._key)):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def take_up(self) -> bool:
        """Show new connections what the files hold now, if they have changed; say whether that was so.

        Files that cannot be used change nothing, and are tried again once they have changed once more.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # A half-written pair must not spoil the good one.
            self._load(self.context)
        except ConfigurationError as error:
            _log.error("the new certificate is not taken up", error=str(error))
            return False
        _log.info("the new certificate is in use", path=str(self._certificate))
        return True

    async def watch(self) -> None:
        """Take new files up as they come, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.take_up()


def _no_pass_phrase() -> str:
    return ""
