"""Runs the services of deploy/systemd as systemd would, where there is none: by the units' own lines.

Each runs as the unit's user in a file system of its own that can only be read, but for the state directory; without
capabilities; under the unit's filter of system calls; and tells a socket when it is ready. What of a unit is not done
here is in `NOT_DONE`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "deploy/systemd"
FILTER = Path(__file__).with_name("syscall_filter.py")
SECONDS_MAX = 120.0
LOOK_SECONDS = 1.0
"""How often a service that is silent is looked at."""
USER_ID = 64738
"""Of the unit's user, who is known in these file systems only."""

DONE = {
    *("Type", "User", "Group", "Environment", "EnvironmentFile", "ExecStart", "KillMode", "WatchdogSec", "LimitNOFILE"),
    *("StateDirectory", "StateDirectoryMode", "ConfigurationDirectory", "UMask", "NoNewPrivileges"),
    *("CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectProc"),
    *("ProtectKernelTunables", "SystemCallFilter", "SystemCallArchitectures"),
}
NOT_DONE = {
    *("Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "TasksMax"),
    *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname"),
    *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality"),
}

_MAKE_ROOT = r"""
umask 022
bind() { mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; }
mount -t tmpfs -o mode=755 tmpfs "$root"
for path in /bin /sbin /lib /lib64 /usr /sys; do
    if [ -L $path ]; then cp -a $path "$root$path"; elif [ -d $path ]; then bind $path; fi
done
mkdir -p "$root/home" "$root/opt" "$root/root" "$root/run/systemd" "$root/proc" "$root/dev" "$root/etc"
mkdir -p "$root/tmp" "$root/var/tmp" "$root/var/lib/twinsite"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/var/tmp"
for path in $seen; do bind "$path"; done
ln -s "$program" "$root/opt/twinsite"
mount --bind "$etc" "$root/etc"
mount -o remount,bind,ro "$root/etc"
mount --bind "$state" "$root/var/lib/twinsite"
touch "$root/run/systemd/notify"
mount --bind "$notify" "$root/run/systemd/notify"
mount -t proc -o "$proc" proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
if [ $devices = private ]; then
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for path in /dev/null /dev/zero /dev/full /dev/random /dev/urandom; do
        touch "$root$path"
        mount --bind $path "$root$path"
    done
    mkdir "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
else
    mount --rbind /dev "$root/dev"
fi
mount -o remount,ro "$root"
ulimit -n $files
umask $umask
exec chroot "$root" setpriv --reuid=$user --regid=$group --clear-groups \
    --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


_FIRST = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("begins", flush=True)
while True:
    signal.pause()
"""
"""The first process of a machine: it lets the system bury what others leave behind."""


class Unit:
    """The service of a unit file."""

    def __init__(self, name: str, instance: str = "") -> None:
        self.name = name
        self._lines: dict[str, list[str]] = {}
        section = ""
        for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self._lines.setdefault(key, []).append(value.replace("%i", instance))
        assert self._lines.keys() <= DONE | NOT_DONE, "say what of it is done here"

    def get(self, key: str, default: str = "") -> str:
        """Return the last value of a key."""
        return self._lines.get(key, [default])[-1]

    def command(self, etc: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command and the environment that the unit gives it. `etc` is what it will see as /etc."""
        environment = dict(line.split("=", 1) for line in self._lines.get("Environment", []))
        for path in self._lines.get("EnvironmentFile", []):
            file = etc / Path(path.lstrip("-")).relative_to("/etc")
            if file.exists() or not path.startswith("-"):
                environment |= read_environment(file)
        words: list[str] = []
        for word in self.get("ExecStart").split():
            # systemd splits a variable that stands alone at its blanks.
            words += environment.get(word[1:], "").split() if word.startswith("$") else [word]
        return words, environment

    def allowed_calls(self) -> list[str]:
        """Return the names of the system calls that the unit allows."""
        allowed = set(_calls_of("@default"))
        for line in self._lines["SystemCallFilter"]:
            for name in line.removeprefix("~").split():
                allowed = allowed - _calls_of(name) if line.startswith("~") else allowed | _calls_of(name)
        return sorted(allowed | _calls_of("@default"))


def read_environment(path: Path) -> dict[str, str]:
    """Read a file of variables as systemd does: lines that end in a backslash go on, comments do not count."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    given = (line.partition("=") for line in lines if line.strip() and not line.startswith(("#", ";")))
    # Without quotes a value goes on to the end of its line.
    return {name: shlex.split(value)[0] if value.startswith(('"', "'")) else value for name, _, value in given}


@functools.cache
def _sets_of_calls() -> dict[str, list[str]]:
    """Return what systemd's sets of system calls hold: names, and other sets."""
    listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter"], capture_output=True, check=True)
    sets: dict[str, list[str]] = {}
    name = ""
    for line in listed.stdout.decode().splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = word
        elif word and not word.startswith("#"):  # What no set holds comes at the end, behind such a mark.
            sets.setdefault(name, []).append(word)
    return sets


def _calls_of(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    return {call for held in _sets_of_calls()[name] for call in _calls_of(held)}


class Machine:
    """A machine on which the units run. Use as a context manager; everything on it ends with it."""

    def __init__(self) -> None:
        """Make its directories. Skips the test where this user may not make file systems."""
        tools = ("unshare", "nsenter", "setpriv", "systemd-analyze")
        if os.geteuid() != 0 or not all(map(shutil.which, tools)):
            pytest.skip(f"needs root and {', '.join(tools)}")
        self.directory = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        self.state = self.directory / "state"
        self.etc = self.directory / "etc"
        self.configuration = self.etc / "twinsite"
        self.state.mkdir()
        shutil.chown(self.state, USER_ID, USER_ID)
        self.configuration.mkdir(parents=True)
        for name in ("passwd", "group", "nsswitch.conf", "hosts"):
            shutil.copy(Path("/etc") / name, self.etc / name)
        with (self.etc / "passwd").open("a") as users, (self.etc / "group").open("a") as groups:
            users.write(f"twinsite:x:{USER_ID}:{USER_ID}::/var/lib/twinsite:/usr/sbin/nologin\n")
            groups.write(f"twinsite:x:{USER_ID}:\n")
        # The first process of a namespace: whatever runs in it ends with it, however a service leaves its workers.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        self._first = subprocess.Popen([*command, sys.executable, "-c", _FIRST], stdout=subprocess.PIPE)
        assert self._first.stdout is not None
        self._first.stdout.readline()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._first.kill()
        self._first.communicate(timeout=SECONDS_MAX)
        shutil.rmtree(self.directory)

    @contextmanager
    def run(self, unit: Unit) -> Iterator[Service]:
        """Start a unit's service; end it at the end, unless it has ended."""
        service = Service(self, unit)
        try:
            yield service
        finally:
            service.close()

    def enter(self) -> list[str]:
        """Return how a command gets to where the machine's processes are."""
        return ["nsenter", "--target", str(child_of(self._first.pid)), "--mount", "--pid", "--"]


class Service:
    """A running service of a unit."""

    def __init__(self, machine: Machine, unit: Unit) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.settimeout(LOOK_SECONDS)
        self._signs: set[bytes] = set()
        self._place = Path(tempfile.mkdtemp(dir=machine.directory))
        notify, names, self.log = self._place / "notify", self._place / "calls", self._place / "log"
        self._listener.bind(str(notify))
        notify.chmod(0o777)
        self._place.chmod(0o755)
        names.write_text("\n".join(unit.allowed_calls()))
        shutil.copy(names, machine.etc / "calls")
        (self._place / "root").mkdir()
        words, given = unit.command(machine.etc)
        machine.state.chmod(int(unit.get("StateDirectoryMode"), 8))
        files = min(int(unit.get("LimitNOFILE")), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        setup: Mapping[str, object] = {
            "root": self._place / "root",
            # The program of the tests is not installed: it, and its interpreter, are shown where they are.
            "seen": " ".join({str(REPOSITORY), str(Path(sys.prefix).resolve()), sys.base_prefix}),
            "program": Path(sys.prefix).resolve(),
            "etc": machine.etc,
            "state": machine.state,
            "notify": notify,
            "proc": "hidepid=invisible" if unit.get("ProtectProc") == "invisible" else "rw",
            "devices": "private" if unit.get("PrivateDevices") == "yes" else "all",
            "files": files,
            "umask": unit.get("UMask"),
            "user": unit.get("User"),
            "group": unit.get("Group"),
        }
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "HOME": "/var/lib/twinsite",
            "USER": unit.get("User"),
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "WATCHDOG_USEC": str(int(unit.get("WatchdogSec")) * 1_000_000),
            "PYTHONPATH": str(REPOSITORY / "src"),
            **given,
        }
        variables = [f"{name}={value}" for name, value in environment.items()]
        script = (
            "set -eu\n" + "\n".join(f"{name}={shlex.quote(str(value))}" for name, value in setup.items()) + _MAKE_ROOT
        )
        filtered = [str(Path(sys.base_prefix) / "bin/python3"), str(FILTER), "/etc/calls", *words]
        inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "unit"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*machine.enter(), *inside, "/usr/bin/env", "-i", *variables, *filtered], stdout=log, stderr=log
            )

    def wait_for(self, sign: bytes) -> None:
        """Wait until the service has given a sign on its socket, now or before."""
        ends_at = time.monotonic() + SECONDS_MAX
        while sign not in self._signs and self.process.poll() is None and time.monotonic() < ends_at:
            with contextlib.suppress(TimeoutError):
                self._signs |= set(self._listener.recv(4096).splitlines())
        if sign in self._signs:
            return
        how = "it runs" if self.process.returncode is None else f"exit status {self.process.returncode}"
        raise AssertionError(f"it never said {sign!r} ({how}): {self.text()}")

    def stop(self) -> int:
        """End the main process alone, as KillMode=process does; return its exit status."""
        os.kill(child_of(self.process.pid), signal.SIGTERM)
        return self.process.wait(SECONDS_MAX)

    def text(self) -> str:
        """Return all that it has logged."""
        return self.log.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            os.kill(child_of(self.process.pid), signal.SIGKILL)
            self.process.wait(SECONDS_MAX)
        self._listener.close()


def child_of(pid: int) -> int:
    """Return the one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(child)
