"""A group of an installation, driven through the HTTP API as a client does, and what its workers and disks say."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.installation import WAIT_SECONDS_MAX, Installation, open_client, wait_for
from twinsite.messages import WorkerStatus, from_wire


class Group:
    """Production disks in az1, DR disks in az2, paired and grouped."""

    def __init__(self, installation: Installation, pair_count: int, name: str | None = None) -> None:
        """Make them, all pairs and the group with this name, and wait until the group is available."""
        self.installation = installation
        self._named = {} if name is None else {"name": name}
        self.production = [installation.create_volume("az1") for _ in range(pair_count)]
        self.dr = [installation.create_volume("az2") for _ in range(pair_count)]
        pair_ids = [self._pair(*volumes) for volumes in zip(self.production, self.dr, strict=True)]
        fields = {"priority_station": "az1", "replication_model": "hypermetro", **self._named}
        body = {**fields, "replication_ids": pair_ids}
        made = self._call("POST", "-consistency-groups", {"replication_consistency_group": body})
        self.pair_ids = pair_ids
        self.id = str(made["replication_consistency_group"]["id"])
        wait_for(lambda: self.show()["status"] == "available", "the group")

    def disks(self, site: str) -> list[str]:
        """The group's volumes at a site."""
        return self.production if site == "az1" else self.dr

    def connect(self, site: str) -> list[str]:
        """Attach a host to the group's volumes at a site and return their NBD URIs."""
        return [self.installation.connect(volume_id) for volume_id in self.disks(site)]

    def connect_again(self, site: str) -> list[str]:
        """Do as `connect`, after processes were killed: try until nodes and workers are there again."""
        uris: list[str] = []

        def is_connected() -> bool:
            try:
                uris[:] = self.connect(site)
            except AssertionError as refusal:
                # A controller that was started again may not have heard the node yet, and says: try again.
                if "503" not in str(refusal):
                    raise
                return False
            return True

        wait_for(is_connected, "connected volumes")
        for uri in uris:
            open_client(uri).close()  # A worker that was started again needs a moment.
        return uris

    def worker_status(self, site: str) -> WorkerStatus:
        """What the worker at a site says of itself, asked without controller and node."""
        path = self.installation.directory / site / "run" / "w" / f"{self.id}.ctl"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT_SECONDS_MAX)
            connection.connect(str(path))
            with connection.makefile("rb") as lines:
                return from_wire(WorkerStatus, json.loads(lines.readline()))

    def wait_worker(self, site: str, wanted: Callable[[WorkerStatus], bool], what: str) -> WorkerStatus:
        """Wait until the worker at a site says what is wanted."""
        said: list[WorkerStatus] = []

        def is_so() -> bool:
            said[:] = [self.worker_status(site)]
            return wanted(said[0])

        wait_for(is_so, lambda: f"{what}: {said[0]}")
        return said[0]

    def wait_shown(self, what: str, **fields: object) -> Any:
        """Wait until the API shows these values for the group; return all that it shows."""
        shown: dict[str, Any] = {}

        def is_so() -> bool:
            shown.clear()
            shown.update(self.show())
            return all(shown[name] == value for name, value in fields.items())

        wait_for(is_so, lambda: f"{what}: {fields}, not {shown}")
        return shown

    def _pair(self, production: str, dr: str) -> str:
        fields = {"priority_station": "az1", "replication_model": "hypermetro", **self._named}
        body = {**fields, "volume_ids": [production, dr]}
        pair_id = str(self._call("POST", "s", {"replication": body})["replication"]["id"])
        path = f"s/{pair_id}"
        wait_for(lambda: self._call("GET", path)["replication"]["status"] == "available", "the pair")
        return pair_id

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return self.installation.call(method, f"/os-vendor-replication{path}", body, version="v2")

    def show(self) -> Any:
        """The group as the API shows it."""
        return self._call("GET", f"-consistency-groups/{self.id}")["replication_consistency_group"]

    def act(self, name: str, argument: object = None) -> None:
        """Ask for an action."""
        self._ask("POST", "/action", {f"os-{name}-replication-consistency-group": argument})

    def _ask(self, method: str, path: str, body: object) -> None:
        """Ask for a change of the group, and again as its refusal says when what a worker told came in between."""

        def is_answered() -> bool:
            url = f"/os-vendor-replication-consistency-groups/{self.id}{path}"
            answer = self.installation.raw(method, url, body, version="v2")
            assert answer.is_success or answer.status_code == 409, f"{url}: {answer.status_code} {answer.text}"
            return answer.is_success

        wait_for(is_answered, f"an answer that is no conflict to {body}")

    def fail_over(self) -> None:
        """Promote the DR side, which loses nothing, and wait until it serves."""
        self.act("failover")
        self.wait_shown("a served DR side", status="failovered")

    def change(self, **fields: object) -> None:
        """Update the group, and wait until that is in force."""
        self._ask("PUT", "", {"replication_consistency_group": fields})
        wait_for(lambda: self.show()["status"] == "available", "the changed group")

    def synchronize(self) -> None:
        """The founding action, and the wait for its promise."""
        self.act("sync")
        self.wait_active()

    def wait_active(self) -> None:
        """Wait until the data in all pairs is consistent and stays so."""
        wait_for(lambda: self.show()["replication_status"] == "active", lambda: f"an active group: {self.show()}")

    def pool_file(self, volume_id: str) -> Path:
        """Where a volume's bytes lie."""
        site = "az1" if volume_id in self.production else "az2"
        return self.installation.directory / site / "pool" / f"{volume_id}.raw"

    def assert_twins_equal(self) -> None:
        """Compare each DR disk with its production disk, with a tool that is not ours."""
        for production, dr in zip(self.production, self.dr, strict=True):
            files = [self.pool_file(production), self.pool_file(dr)]
            compared = subprocess.run(
                ["qemu-img", "compare", "-f", "raw", "-F", "raw", *files], capture_output=True, text=True, check=False
            )
            assert compared.returncode == 0, compared.stdout + compared.stderr
