"""A worker that opens its stores and speaks the control protocol, and misbehaves when told to.

Run as the real one: `python stand_in_worker.py --id ID --run-dir DIR --state-dir DIR`. Files in the state directory
tell it how to misbehave: `die` (exit status 7 at once), `stubborn` (ignore SIGTERM), `garbage` (send no status but
noise), `slow` (take half a second to let volumes go). `taken-spec.json` there is the last spec that it took.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from twinsite.errors import StorageFault
from twinsite.messages import Failure, MemberStatus, Mode, Role, WorkerSpec, WorkerStatus, from_wire, to_wire
from twinsite.pidfile import PidFile
from twinsite.stores.base import Store
from twinsite.stores.opening import open_store

RELEASE_SECONDS = 0.5


class StandIn:
    """Keeps exactly the stores of its spec open."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.stores: dict[str, Store] = {}

    def is_told_to(self, what: str) -> bool:
        """Tell whether it shall misbehave in this way."""
        return (self.state_dir / what).exists()

    async def release(self, volume_ids: set[str]) -> None:
        """Close stores."""
        if self.is_told_to("slow") and volume_ids:
            await asyncio.sleep(RELEASE_SECONDS)
        for volume_id in volume_ids:
            self.stores.pop(volume_id).close()

    async def apply(self, spec: WorkerSpec) -> WorkerStatus:
        """Open and close stores, and return the status after it."""
        (self.state_dir / "taken-spec.json").write_text(json.dumps(to_wire(spec)))
        await self.release(self.stores.keys() - {member.volume_id for member in spec.members})
        failure = None
        for member in spec.members:
            assert member.store is not None
            if member.volume_id not in self.stores:
                try:
                    self.stores[member.volume_id] = open_store(member.store, member.size_bytes)
                except StorageFault as fault:
                    failure = Failure("37000216", str(fault))
        return WorkerStatus(
            id=spec.id,
            spec_version=spec.version,
            role=spec.role,
            mode=Mode.FOLLOWING if spec.role is Role.SECONDARY else Mode.SOLO,
            term=spec.term,
            members=[MemberStatus(volume_id, serving=True) for volume_id in self.stores],
            stream_endpoint=spec.stream_listen,
            failure=failure,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each spec on one connection."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                status = await self.apply(from_wire(WorkerSpec, json.loads(line)))
                answer = b"noise\n" if self.is_told_to("garbage") else json.dumps(to_wire(status)).encode() + b"\n"
                writer.write(answer)
                await writer.drain()
        writer.close()


async def run(worker: StandIn, control_path: Path) -> None:
    """Serve the control socket until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None if worker.is_told_to("stubborn") else stop.set())
    control_path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(worker.serve, str(control_path), limit=1024 * 1024)
    await stop.wait()
    await worker.release(set(worker.stores))
    server.close()


def main() -> int:
    """Run the stand-in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", required=True)
    parser.add_argument("--run-dir", required=True, type=Path)
    parser.add_argument("--state-dir", required=True, type=Path)
    arguments = parser.parse_args()
    worker = StandIn(arguments.state_dir)
    if worker.is_told_to("die"):
        return 7
    with PidFile(arguments.run_dir / f"{arguments.id}.pid"):
        asyncio.run(run(worker, arguments.run_dir / f"{arguments.id}.ctl"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
