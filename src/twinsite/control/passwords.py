"""Passwords: Argon2 in threads, a few at a time, and never faster for a user who does not exist."""

from __future__ import annotations

import asyncio

import argon2

from twinsite.control.refusals import bad_request

PASSWORD_BYTES_MAX = 4096
"""A longer password is wrong without being hashed."""
HASHERS_MAX = 2
"""Argon2 takes 64 MiB and tens of milliseconds of a core: more at once would let strangers exhaust the machine."""


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        """Begin without a decoy; `bootstrap` of the identity gives one."""
        self._hasher = argon2.PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHERS_MAX)
        self._decoy_hash = ""

    def use_decoy(self, password_hash: str) -> None:
        """Check passwords of users who have none against this hash. What comes out is thrown away."""
        self._decoy_hash = password_hash

    async def hash(self, password: str) -> str:
        """Return the hash of a new password; `RequestRefused` (400) for one that cannot be."""
        if not password or len(password.encode(errors="replace")) > PASSWORD_BYTES_MAX:
            raise bad_request(f"The password must have 1 to {PASSWORD_BYTES_MAX} bytes of UTF-8.")
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """Say whether a password is right. It takes as long for no hash, so that nobody can probe who exists."""
        is_short = len(password.encode(errors="replace")) <= PASSWORD_BYTES_MAX
        async with self._hashing:
            right = await asyncio.to_thread(
                self._verify, password_hash or self._decoy_hash, password if is_short else ""
            )
        return right and is_short and bool(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
