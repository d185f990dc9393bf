"""The programs that people copy a disk with, each over TCP on the loopback, and each durable at its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import peers
from bench.processes import Server, cpu_seconds, free_port, run, wait_listening
from bench.wire import Network


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that is done. `cpu_seconds` is 0 where it was not counted."""

    seconds: float
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be copied to where; both files exist. `network` is where it travels, or None for the machine's."""

    source: Path
    target: Path
    directory: Path
    seconds_max: float
    network: Network | None = None

    def inside(self, command: list[str]) -> list[str]:
        """Return the command as it is to be run."""
        return command if self.network is None else self.network.inside(command)


@dataclass(frozen=True, slots=True)
class Copier:
    """A program that copies, and what it needs to be installed. `copy` raises `BenchError`."""

    name: str
    label: str
    tools: tuple[str, ...]
    copy: Callable[[Job], Copied]


def _between_nbd_servers(command: list[str], job: Job) -> Copied:
    """Run a command on two NBD servers, the source's on a Unix socket and the target's on TCP."""
    with ExitStack() as stack:
        near, source_uri = peers.nbdkit_unix(stack, job.source, job.directory, "source")
        far, port = peers.nbdkit_tcp(stack, job.target, job.directory, "target", job.inside)
        servers = [near.pid, far.pid]
        before = cpu_seconds(servers)
        full_command = [*command, source_uri, f"nbd://127.0.0.1:{port}/"]
        finished = run(job.inside(full_command), job.directory / "copy.log", job.seconds_max)
        return Copied(finished.seconds, finished.cpu_seconds + cpu_seconds(servers) - before)


def _rsync(options: tuple[str, ...], job: Job) -> Copied:
    """Copy into the module of a daemon. Its processes end when they like, so no CPU time is counted."""
    port = free_port()
    config = job.directory / "rsync.conf"
    with ExitStack() as stack:
        pid_path = job.directory / "rsync.pid"
        own = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.geteuid() == 0 else ""
        module = f"[target]\npath = {job.target.parent}\nread only = no\nuse chroot = no\n"
        config.write_text(f"pid file = {pid_path}\n{own}{module}")
        command = ["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={config}"]
        wait_listening(stack.enter_context(Server(job.inside(command), job.directory, "rsync")), port)
        target = f"rsync://127.0.0.1:{port}/target/{job.target.name}"
        client = ["rsync", "--inplace", "--ignore-times", "--fsync", *options, str(job.source), target]
        finished = run(job.inside(client), job.directory / "copy.log", job.seconds_max)
    return Copied(finished.seconds)


def _dd(job: Job) -> Copied:
    script = (
        'socat -u TCP-LISTEN:"$2",bind=127.0.0.1 STDOUT '
        '| dd of="$1" bs=1M iflag=fullblock conv=notrunc,fdatasync status=none & receiver=$!\n'
        'dd if="$0" bs=1M status=none | socat -u STDIN TCP:127.0.0.1:"$2",retry=1000,interval=0.01 || exit 1\n'
        "wait $receiver"
    )
    command = ["sh", "-c", script, str(job.source), str(job.target), str(free_port())]
    finished = run(job.inside(command), job.directory / "copy.log", job.seconds_max)
    return Copied(finished.seconds, finished.cpu_seconds)


_NBD = ("nbdcopy", "nbdkit")
_BEST = ("--connections=2", "--threads=2", "--requests=8", "--request-size=524288")
"""What was fastest on two cores, of some combinations that were tried with random data."""

NBDCOPY = Copier("nbdcopy-flush", "nbdcopy --flush", _NBD, partial(_between_nbd_servers, ["nbdcopy", "--flush"]))
NBDCOPY_BEST = Copier(
    "nbdcopy-best",
    "nbdcopy --flush, best options",
    _NBD,
    partial(_between_nbd_servers, ["nbdcopy", "--flush", *_BEST]),
)
QEMU_IMG = Copier(
    "qemu-img",
    "qemu-img convert -n",
    ("qemu-img", "nbdkit"),
    # By default it ignores the flush at the end.
    partial(_between_nbd_servers, ["qemu-img", "convert", "-n", "-t", "writeback", "-f", "raw", "-O", "raw"]),
)
RSYNC_WHOLE = Copier("rsync", "rsync --inplace --whole-file", ("rsync",), partial(_rsync, ("--whole-file",)))
RSYNC_DELTA = Copier("rsync", "rsync --inplace", ("rsync",), partial(_rsync, ("--no-whole-file",)))
DD = Copier("dd", "dd through socat", ("dd", "socat"), _dd)

FULL_COPIERS = (NBDCOPY, NBDCOPY_BEST, QEMU_IMG, RSYNC_WHOLE, DD)
