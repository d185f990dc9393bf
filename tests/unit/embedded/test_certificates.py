"""The authority and the certificates of `up --tls`, over years that a test names."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from twinsite.embedded import certificates
from twinsite.embedded.certificates import TlsFiles, ensure_certificates, names_of_this_machine
from twinsite.errors import ConfigurationError

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NAMES = ("localhost", "127.0.0.1", "::1", "ctl.example.org")


def after(days: float) -> datetime.datetime:
    """Return the time so many days after the start."""
    return START + datetime.timedelta(days=days)


def server(files: TlsFiles) -> x509.Certificate:
    """Return the server's certificate, checked against the authority and its key."""
    certificate = x509.load_pem_x509_certificate(files.server.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.authority.read_bytes()))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.server)
    return certificate


def test_what_is_made(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "tls")
    assert ensure_certificates(files, NAMES, START)
    certificate = server(files)
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(alternatives.get_values_for_type(x509.DNSName)) == {"localhost", "ctl.example.org"}
    assert {str(item) for item in alternatives.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600}
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert b"PRIVATE" not in files.authority.read_bytes()
    assert not ensure_certificates(files, NAMES, after(1)), "what is good stays"
    assert server(files) == certificate


def test_renewal(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path)
    ensure_certificates(files, NAMES, START)
    authority, first = files.authority.read_bytes(), server(files)
    assert not ensure_certificates(files, NAMES, after(59))
    assert ensure_certificates(files, NAMES, after(61))
    second = server(files)
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc == after(61 + certificates.SERVER_DAYS)
    assert files.authority.read_bytes() == authority, "clients need nothing new"
    # The authority is replaced a year before its end, but not under nodes that run.
    late = after(certificates.CA_DAYS - 300)
    ensure_certificates(files, NAMES, late, may_replace_authority=False)
    assert files.authority.read_bytes() == authority
    assert ensure_certificates(files, NAMES, late)
    assert files.authority.read_bytes() != authority
    server(files)


def test_a_name_that_is_missing_is_added(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path)
    ensure_certificates(files, NAMES, START)
    assert ensure_certificates(files, [*NAMES, "10.1.2.3"], START)
    first = server(files)
    assert not ensure_certificates(files, NAMES, START), "a name too many does no harm"
    assert server(files) == first


def test_crashes_between_two_files(tmp_path: Path) -> None:
    files, other = TlsFiles(tmp_path / "a"), TlsFiles(tmp_path / "b")
    for made in (files, other):
        ensure_certificates(made, NAMES, START)
    # The key of a new authority is there, its certificate not yet.
    files.authority_key.write_bytes(other.authority_key.read_bytes())
    assert not ensure_certificates(files, NAMES, START)
    assert ensure_certificates(files, NAMES, after(80))
    server(files)
    # The new authority is there, the certificate still of the old one.
    files.authority.write_bytes(other.authority.read_bytes())
    files.authority_key.write_bytes(other.authority_key.read_bytes())
    assert ensure_certificates(files, NAMES, after(80))
    server(files)
    files.server.unlink()
    assert ensure_certificates(files, NAMES, after(80))
    server(files)


def test_the_key_of_the_authority_may_be_kept_elsewhere(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path)
    ensure_certificates(files, NAMES, START)
    key = files.authority_key.read_bytes()
    files.authority_key.unlink()
    assert not ensure_certificates(files, NAMES, after(1))
    with pytest.raises(ConfigurationError, match=r"ca\.key is not there"):
        ensure_certificates(files, NAMES, after(80))
    server(files)
    files.authority_key.write_bytes(key)
    assert ensure_certificates(files, NAMES, after(80))


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    files = TlsFiles(tmp_path)
    ensure_certificates(files, NAMES, START)
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        ensure_certificates(files, NAMES, after(80))


def test_the_names_of_this_machine() -> None:
    names = names_of_this_machine(["ctl.example.org", "localhost"])
    assert {"localhost", "127.0.0.1", "::1", "ctl.example.org"} <= set(names)
    assert len(names) == len(set(names))
