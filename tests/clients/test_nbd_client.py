"""The NBD client against real servers: nbdkit and qemu-nbd, each handed a listening socket, so nothing is polled."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinsite.errors import StorageFault
from twinsite.nbd_client import NbdClient

MIB = 1024 * 1024
SIZE_BYTES = 64 * MIB
STOP_SECONDS_MAX = 60.0
# Moves the socket to descriptor 3 and names its own pid, as sd_listen_fds(3) wants, and becomes the server.
SOCKET_ACTIVATION = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""

needs_nbdkit = pytest.mark.skipif(shutil.which("nbdkit") is None, reason="nbdkit is not installed")
needs_qemu_nbd = pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as path:
        yield Path(path)


@contextlib.contextmanager
def server_on(listener: socket.socket, *command: str) -> Iterator[None]:
    """Run an NBD server that takes over `listener` by socket activation, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SOCKET_ACTIVATION, str(listener.fileno()), *command],
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
    )
    listener.close()
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=STOP_SECONDS_MAX)


@contextlib.contextmanager
def unix_server(directory: Path, *command: str) -> Iterator[str]:
    """Run an NBD server on a Unix socket; give the URI of its default export."""
    path = directory / "nbd.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with server_on(listener, *command):
        yield f"nbd+unix:///?socket={path}"


def nbdkit(*arguments: str) -> list[str]:
    return ["nbdkit", "--foreground", "--exit-with-parent", *arguments]


@needs_nbdkit
@pytest.mark.parametrize("structured", [True, False])
def test_reads_back_what_it_wrote(directory: Path, structured: bool) -> None:
    seed = 20_260_101
    print(f"seed {seed}")
    chooser = random.Random(seed)
    model = bytearray(SIZE_BYTES)
    with (
        unix_server(directory, *nbdkit("memory", str(SIZE_BYTES))) as uri,
        NbdClient(uri, structured_replies=structured) as client,
    ):
        assert client.size_bytes == SIZE_BYTES
        assert client.structured_replies is structured
        for _ in range(60):
            offset = chooser.randrange(SIZE_BYTES - MIB)
            data = chooser.randbytes(chooser.choice([1, 511, 4096, 65_536, 65_537, MIB]))
            client.write(offset, data, fua=chooser.random() < 0.3)
            model[offset : offset + len(data)] = data
            offset, length = chooser.randrange(SIZE_BYTES - MIB), chooser.randrange(1, MIB)
            if chooser.random() < 0.3:
                client.zero(offset, length, fua=chooser.random() < 0.3, may_punch=chooser.random() < 0.5)
                model[offset : offset + length] = bytes(length)
            assert client.read(offset, length) == model[offset : offset + length]
        client.flush()
        assert client.read(0, SIZE_BYTES) == model


@needs_nbdkit
def test_serves_over_tcp_with_an_export_name(directory: Path) -> None:
    image = directory / "exports" / "disk one"
    image.parent.mkdir()
    image.write_bytes(os.urandom(MIB))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with server_on(listener, *nbdkit("file", f"dir={image.parent}")):
        with NbdClient(f"nbd://127.0.0.1:{port}/disk%20one") as client:
            assert client.read(0, MIB) == image.read_bytes()
        with pytest.raises(StorageFault) as failure:
            NbdClient(f"nbd://127.0.0.1:{port}/disk%20two")
        # nbdkit refuses a name that it cannot open with an error of its own, before or after the negotiation.
        assert failure.value.errno_value in {errno.ENOENT, errno.EIO, errno.ECONNRESET}


@needs_nbdkit
def test_trim_makes_a_hole_in_the_servers_file(directory: Path) -> None:
    image = directory / "image"
    image.write_bytes(b"x" * 4 * MIB)
    with unix_server(directory, *nbdkit("file", str(image))) as uri, NbdClient(uri) as client:
        client.trim(MIB, 2 * MIB)
        client.flush()
    assert image.stat().st_blocks * 512 <= 2 * MIB
    assert image.read_bytes() == b"x" * MIB + bytes(2 * MIB) + b"x" * MIB


@needs_nbdkit
def test_splits_at_the_servers_maximum(directory: Path) -> None:
    command = nbdkit(
        "--filter=blocksize-policy",
        "memory",
        str(SIZE_BYTES),
        "blocksize-minimum=1",
        "blocksize-preferred=4096",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
    )
    with unix_server(directory, *command) as uri, NbdClient(uri) as client:
        assert client.transfer_bytes_max == 65_536
        data = os.urandom(3 * 65_536 + 17)
        client.write(5, data)
        assert client.read(5, len(data)) == data


@needs_nbdkit
def test_a_refused_request_leaves_the_connection_usable(directory: Path) -> None:
    command = nbdkit("--filter=error", "memory", "1M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
    with unix_server(directory, *command) as uri, NbdClient(uri) as client:
        with pytest.raises(StorageFault) as failure:
            client.write(0, b"data")
        assert failure.value.errno_value == errno.ENOSPC
        assert uri in str(failure.value)
        with pytest.raises(StorageFault) as failure:
            client.read(MIB - 1, 2)
        assert failure.value.errno_value == errno.EINVAL
        assert client.read(0, 4) == bytes(4)
        assert client.is_connected


@needs_nbdkit
def test_a_server_without_zeroing_and_trim_says_so(directory: Path) -> None:
    command = nbdkit("--readonly", "--filter=nozero", "memory", "1M")
    with unix_server(directory, *command) as uri, NbdClient(uri) as client:
        assert client.is_read_only
        for request in (client.zero, client.trim):
            with pytest.raises(StorageFault) as failure:
                request(0, 512)
            assert failure.value.errno_value == errno.ENOTSUP


@needs_qemu_nbd
def test_reads_the_holes_of_a_sparse_image(directory: Path) -> None:
    image = directory / "sparse.raw"
    data = os.urandom(MIB)
    with image.open("wb") as file:
        file.truncate(16 * MIB)
        file.seek(3 * MIB)
        file.write(data)
    command = ["qemu-nbd", "--format=raw", "--export-name=", "--persistent", str(image)]
    with unix_server(directory, *command) as uri, NbdClient(uri) as client:
        assert client.structured_replies
        target = bytearray(b"\xff" * 16 * MIB)
        client.read_into(target, 0)
        assert target == bytes(3 * MIB) + data + bytes(12 * MIB)
        client.zero(3 * MIB, MIB, fua=True)
        assert client.read(3 * MIB, MIB) == bytes(MIB)
