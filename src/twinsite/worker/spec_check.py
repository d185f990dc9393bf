"""What a spec must keep to before a worker acts on it: a mistake is told to the controller and changes nothing."""

from __future__ import annotations

from twinsite.core.limits import GROUP_MEMBERS_MAX, SECTOR_BYTES, VOLUME_BYTES_MAX
from twinsite.errors import ConfigurationError
from twinsite.messages import Role, WorkerSpec

STREAM_KEY_BYTES_MIN = 16
"""Shorter secrets could be guessed."""
_PORT_MAX = 65535


def check_spec(spec: WorkerSpec) -> None:
    """Raise `ConfigurationError` that names the first value that no worker can act on."""
    if len(spec.members) > GROUP_MEMBERS_MAX:
        raise ConfigurationError(
            f"the spec of {spec.id} has {len(spec.members)} volumes, more than {GROUP_MEMBERS_MAX}"
        )
    if len({member.index for member in spec.members}) != len(spec.members):
        raise ConfigurationError(f"the spec of {spec.id} gives one index to two volumes")
    if len({member.volume_id for member in spec.members}) != len(spec.members):
        raise ConfigurationError(f"the spec of {spec.id} lists one volume twice")
    for member in spec.members:
        if not 0 <= member.index <= 0xFFFF:
            raise ConfigurationError(f"volume {member.volume_id} has index {member.index}, not one of 0 to 65535")
        if not 0 < member.size_bytes <= VOLUME_BYTES_MAX or member.size_bytes % SECTOR_BYTES:
            raise ConfigurationError(f"volume {member.volume_id} cannot have {member.size_bytes} bytes")
        if member.nbd_tcp is not None:
            check_endpoint(member.nbd_tcp)
    if spec.role is Role.SOLO:
        return
    for endpoint in (spec.stream_listen, spec.peer_endpoint):
        if endpoint is not None:
            check_endpoint(endpoint)
    try:
        key = bytes.fromhex(spec.stream_key)
    except ValueError:
        raise ConfigurationError(f"the stream key of {spec.id} is not hexadecimal") from None
    if len(key) < STREAM_KEY_BYTES_MIN:
        raise ConfigurationError(f"the stream key of {spec.id} has {len(key)} bytes, fewer than {STREAM_KEY_BYTES_MIN}")


def check_endpoint(endpoint: str) -> None:
    """Raise `ConfigurationError` unless `endpoint` is "host:port"."""
    host, _, port = endpoint.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _PORT_MAX:
        raise ConfigurationError(f"{endpoint!r} is not an endpoint; write host:port")
