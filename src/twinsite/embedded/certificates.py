"""A certificate authority of the installation's own, and a certificate of it for the API.

    tls/ca.pem        what clients are to trust; may be shown to everybody
    tls/ca.key        signs; only ever read here, so it may be moved away between two renewals
    tls/server.pem    the server's key and its certificate in one file, so that the two always fit each other

Both are made anew well before they expire, and the certificate as soon as it lacks a name that it needs. Files are
replaced whole; the controller takes a new certificate up by itself.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinsite.durable_file import replace_file
from twinsite.errors import ConfigurationError

CA_DAYS = 3650
CA_DAYS_LEFT_MIN = 365
SERVER_DAYS = 90
SERVER_DAYS_LEFT_MIN = 30
BACKDATED = datetime.timedelta(hours=1)
"""Certificates are valid from a little earlier, for clients whose clocks are behind."""
PRIVATE_MODE, PUBLIC_MODE = 0o600, 0o644
_NO_ENCRYPTION = serialization.NoEncryption()

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates lie."""

    directory: Path

    @property
    def authority(self) -> Path:
        """What clients are to trust."""
        return self.directory / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """The authority's key."""
        return self.directory / "ca.key"

    @property
    def server(self) -> Path:
        """The server's key and certificate."""
        return self.directory / "server.pem"


def names_of_this_machine(extra: Iterable[str]) -> list[str]:
    """Return the names and addresses at which clients reach this machine, and `extra` ones, each once."""
    host = socket.gethostname()
    names = ["localhost", "127.0.0.1", "::1", host, *extra]
    with contextlib.suppress(OSError):  # At a name that nobody resolves nobody is reached.
        names += [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    names += filter(None, (_address_towards(target) for target in ("192.0.2.1", "2001:db8::1")))
    return list(dict.fromkeys(name.partition("%")[0] for name in names if name))


def _address_towards(target: str) -> str | None:
    """Return this machine's address on the way to a `target` that is asked nothing; None without such a way."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def ensure_certificates(
    files: TlsFiles, names: Iterable[str], now: datetime.datetime, *, may_replace_authority: bool = True
) -> bool:
    """Let there be certificates that will do for a while from `now` (UTC); say whether anything was made.

    Without `may_replace_authority` one that nears its end stays, because who runs trusts it.

    Raises `ConfigurationError` when the authority's key is needed and not there, or files cannot be read or written.
    """
    try:
        files.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _authority(files)
        wanted = set(names)
        certificate = _certificate(files.server)
        days_left_min = CA_DAYS_LEFT_MIN if may_replace_authority else 0
        if (
            authority is not None
            and _days_left(authority, now) >= days_left_min
            and certificate is not None
            and _is_good(certificate, authority, wanted, now)
        ):
            return False
        if authority is None or _days_left(authority, now) < days_left_min:
            authority = _make_authority(files, now)
            _log.warning("a new certificate authority was made; give its file to clients", path=str(files.authority))
        _make_server_certificate(files, authority, wanted, now)
        _log.info("a new certificate was made", path=str(files.server), names=sorted(wanted))
        return True
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the certificates in {files.directory} cannot be used: {error}") from error


def _certificate(path: Path) -> x509.Certificate | None:
    return x509.load_pem_x509_certificate(path.read_bytes()) if path.exists() else None


def _authority(files: TlsFiles) -> x509.Certificate | None:
    return _certificate(files.authority)


def _days_left(certificate: x509.Certificate, now: datetime.datetime) -> float:
    return (certificate.not_valid_after_utc - now).total_seconds() / 86400


def _is_good(
    certificate: x509.Certificate, authority: x509.Certificate, names: set[str], now: datetime.datetime
) -> bool:
    if _days_left(certificate, now) < SERVER_DAYS_LEFT_MIN or now < certificate.not_valid_before_utc:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return names <= _names(certificate)


def _names(certificate: x509.Certificate) -> set[str]:
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    return {*alternatives.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)}


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Twinsite"), _common_name(name)])


def _common_name(name: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, name[:64])  # X.520 has no longer ones.


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    now: datetime.datetime,
    days: int,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _make_authority(files: TlsFiles, now: datetime.datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    # The name tells two authorities of one machine apart, whichever of them a client trusts.
    subject = _subject(f"Twinsite authority {now:%Y-%m-%d} on {socket.gethostname()}")
    authority = _begin(subject, subject, key.public_key(), now, CA_DAYS, is_authority=True).sign(key, hashes.SHA256())
    replace_file(files.authority_key, _private_pem(key), PRIVATE_MODE)
    replace_file(files.authority, authority.public_bytes(serialization.Encoding.PEM), PUBLIC_MODE)
    return authority


def _make_server_certificate(
    files: TlsFiles, authority: x509.Certificate, names: set[str], now: datetime.datetime
) -> None:
    if not files.authority_key.exists():
        raise ConfigurationError(
            f"{files.server} must be made anew, and the authority's key {files.authority_key} is not there. Put it "
            f"back, or remove {files.authority} to have a new authority made."
        )
    signing_key = serialization.load_pem_private_key(files.authority_key.read_bytes(), password=None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    if signing_key.public_key() != authority.public_key():
        # A crash between the two files: nobody can have been given a certificate of the authority without a key.
        authority = _make_authority(files, now)
        _make_server_certificate(files, authority, names, now)
        return
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _begin(
            _subject(socket.gethostname()), authority.subject, key.public_key(), now, SERVER_DAYS, is_authority=False
        )
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
    content = _private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)
    replace_file(files.server, content, PRIVATE_MODE)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _NO_ENCRYPTION)
