"""Who may read what nobody else should, and how long certificates are good."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from twinsite.doctor.findings import Finding, error, ok, warning

SECRET_FILES = ("secrets/*", "clouds.yaml", "openrc*", "controller/twinsite.db*", "tls/*.key", "tls/server.pem")
CERTIFICATES = ("tls/*.pem",)
DAYS_LEFT_MIN = 14


def check_secrets(data: Path) -> Iterator[Finding]:
    """Look at the files of a data directory that hold secrets, and at its certificates."""
    looked_at = 0
    for pattern in SECRET_FILES:
        for path in sorted(data.glob(pattern)):
            looked_at += 1
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                mend = f"chmod 600 {path}; and change the secret if others may have read it"
                yield error("secrets", f"{path} is readable by others (mode {mode:o})", mend)
    yield ok("secrets", f"{looked_at} files with secrets were looked at")
    for pattern in CERTIFICATES:
        for path in sorted(data.glob(pattern)):
            yield from check_certificate(path)


def check_certificate(path: Path) -> Iterator[Finding]:
    """Say how long the certificates in a file are good; nothing of a file that has none, such as a key."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as cause:
        yield error("certificate", f"{path} cannot be read: {cause.strerror}", "give it to the user that runs twinsite")
        return
    except ValueError:
        return
    yield judge_expiry(str(path), min(item.not_valid_after_utc for item in certificates))


def judge_expiry(name: str, ends_at: datetime.datetime) -> Finding:
    """Judge when a certificate ends."""
    days = (ends_at - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
    text = f"{name} is good until {ends_at:%Y-%m-%d}"
    mend = "renew it; a controller reads a new one without a restart"
    if days < 0:
        return error("certificate", f"{name} has expired on {ends_at:%Y-%m-%d}", mend)
    return warning("certificate", text, mend) if days < DAYS_LEFT_MIN else ok("certificate", text)
