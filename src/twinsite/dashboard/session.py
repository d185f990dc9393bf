"""Who uses the page: a token of the API and whose it is, sealed in a cookie that no script can read.

Nothing is kept on the controller: a session outlives a restart of it, and any controller with the same data directory
can open it. What ends a session is the token: it runs out, and logging out revokes it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field
from http.cookies import CookieError, SimpleCookie

from cryptography.fernet import Fernet, InvalidToken

COOKIE_NAME = "twinsite_page"
COOKIE_PATH = "/ui"
COOKIE_BYTES_MAX = 4000
"""Browsers drop longer ones."""
SESSION_SECONDS_MAX = 12 * 3600
"""After this long one logs in again, however long the token would still be good."""


@dataclass(frozen=True, slots=True)
class PageSession:
    """A user who is logged in; without a project only until one is chosen."""

    token: str = field(repr=False)
    user_name: str
    project_id: str | None = None
    project_name: str | None = None


class Seal:
    """Seals sessions and opens them again; nobody without the secret can make or read one."""

    def __init__(self, secret: str) -> None:
        """Derive the key from a secret text."""
        digest = hashlib.sha256(b"twinsite page session\0" + secret.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    def close(self, session: PageSession) -> str:
        """Return a cookie's value."""
        return self._fernet.encrypt(json.dumps(asdict(session)).encode()).decode()

    def open(self, value: str) -> PageSession | None:
        """Return the session of a cookie's value, None when it is none of ours or too old."""
        try:
            fields = json.loads(self._fernet.decrypt(value.encode(), ttl=SESSION_SECONDS_MAX))
            return PageSession(**fields)
        except (InvalidToken, ValueError, TypeError):
            return None


def cookie_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the value of our cookie among a request's headers."""
    for name, value in headers:
        if name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE_NAME)
            except CookieError:
                continue
            if morsel is not None:
                return morsel.value
    return None
