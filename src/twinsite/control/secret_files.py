"""Secrets in files of mode 0600 below the data directory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from twinsite.errors import ConfigurationError


def read_or_create_secret(path: Path) -> str:
    """Return the secret in a file, without surrounding white space; make up a random one when there is no file.

    Two processes that start at once agree: the file appears complete or not at all, and the first one wins.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_text().strip()
    if not secret:
        raise ConfigurationError(f"{path} is empty. Put a secret into it, or remove it to have one made up.")
    return secret
