"""How the usual tools attach a volume, given its NBD addresses: texts to copy, one for each tool. Pure.

A Unix socket is preferred: it is the faster way where the host is the node's own machine. TCP is for others.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import quoteattr

RECONNECT_SECONDS = 300
"""How long a guest's requests wait for the volume to come back: longer than a failover takes, shorter than for ever."""
NBD_DEVICE = "/dev/nbd0"
SERIAL_CHARACTERS_MAX = 20
"""A virtio disk's serial number is not longer."""
TCP_PORT_DEFAULT = 10809


@dataclass(frozen=True, slots=True)
class Address:
    """One way to a volume: a socket, or a host and a port."""

    uri: str
    export: str
    socket: str | None
    host: str
    port: int


def parse_address(uri: str) -> Address:
    """Return what an NBD URI says: `nbd+unix:///EXPORT?socket=PATH` or `nbd://HOST:PORT/EXPORT`."""
    parts = urlsplit(uri)
    socket = parse_qs(parts.query).get("socket", [None])[0]
    return Address(uri, parts.path.removeprefix("/"), socket, parts.hostname or "", parts.port or TCP_PORT_DEFAULT)


def _block_options(address: Address) -> str:
    """Return the options of QEMU's -blockdev and --image-opts. A comma in a value is doubled."""
    if address.socket is not None:
        server = {"server.type": "unix", "server.path": address.socket}
    else:
        server = {"server.type": "inet", "server.host": address.host, "server.port": str(address.port)}
    options = {**server, "export": address.export, "reconnect-delay": str(RECONNECT_SECONDS)}
    return ",".join(["driver=nbd", *(f"{name}={value.replace(',', ',,')}" for name, value in options.items())])


def _qemu(address: Address) -> str:
    node = "twinsite0"
    block = f"{_block_options(address)},node-name={node},cache.direct=on,cache.no-flush=off,discard=unmap"
    device = f"virtio-blk-pci,drive={node},serial={address.export[:SERIAL_CHARACTERS_MAX]}"
    return f"-blockdev {shlex.quote(block)} \\\n-device {shlex.quote(device)}"


def _libvirt(address: Address) -> str:
    if address.socket is not None:
        host = f"<host transport='unix' socket={quoteattr(address.socket)}/>"
    else:
        host = f"<host name={quoteattr(address.host)} port='{address.port}'/>"
    return "\n".join(
        [
            "<disk type='network' device='disk'>",
            "  <driver name='qemu' type='raw' cache='none' discard='unmap'/>",
            f"  <source protocol='nbd' name={quoteattr(address.export)}>",
            f"    {host}",
            f"    <reconnect delay='{RECONNECT_SECONDS}'/>",
            "  </source>",
            "  <target dev='vdb' bus='virtio'/>",
            f"  <serial>{address.export[:SERIAL_CHARACTERS_MAX]}</serial>",
            "</disk>",
        ]
    )


def _nbd_client(address: Address) -> str:
    if address.socket is not None:
        where = ["-unix", address.socket, NBD_DEVICE]
    else:
        where = [address.host, str(address.port), NBD_DEVICE]
    return f"modprobe nbd\nnbd-client {shlex.join([*where, '-name', address.export, '-persist'])}"


def _libnbd(address: Address) -> str:
    return "\n".join(
        [
            "import nbd",
            "",
            "handle = nbd.NBD()",
            f"handle.connect_uri({address.uri!r})",
            "print(handle.get_size())",
        ]
    )


def _nbdsh(address: Address) -> str:
    return f"nbdinfo {shlex.quote(address.uri)}\nnbdcopy --progress {shlex.quote(address.uri)} backup.img"


def _fio(address: Address) -> str:
    # Reads only: a line that is copied in a hurry must not overwrite a disk.
    job = "--name=twinsite --ioengine=nbd --readonly --rw=randread --bs=4k --iodepth=16 --time_based --runtime=10"
    return f"fio {job} --uri={shlex.quote(address.uri)}"


TOOLS: Mapping[str, Callable[[Address], str]] = MappingProxyType(
    {
        "qemu": _qemu,
        "libvirt": _libvirt,
        "nbd-client": _nbd_client,
        "libnbd": _libnbd,
        "nbdcopy": _nbdsh,
        "fio": _fio,
    }
)
"""What makes the text for each tool."""


def texts(uris: Sequence[str]) -> dict[str, str]:
    """Return the text for each tool. `uris` are the addresses of one volume, at least one."""
    addresses = [parse_address(uri) for uri in uris]
    best = next((address for address in addresses if address.socket is not None), addresses[0])
    return {tool: make(best) for tool, make in TOOLS.items()}
