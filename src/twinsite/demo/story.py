"""The main job, told and done: disks at two sites, synchronized under a live writer, proved identical, twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from twinsite.cli.output import format_bytes
from twinsite.cli.progress import SyncBar
from twinsite.client import Client, find_cloud
from twinsite.client.groups import GROUPS, SYNC_ACTION
from twinsite.client.models import Group, Resync
from twinsite.core.limits import BLOCK_BYTES, GIB, MIB
from twinsite.demo import checks
from twinsite.demo.errors import DemoFailed
from twinsite.demo.images import Image, build_filesystem, build_library_tar, copy_to_disk
from twinsite.demo.installation import Installation, temporary_directory
from twinsite.demo.narrator import Narrator
from twinsite.demo.writer import LiveWriter
from twinsite.errors import TwinsiteError
from twinsite.nbd_client import NbdClient

PRODUCTION_SITE, RECOVERY_SITE = "az1", "az2"
DISK_GIB = 1
STEP_SECONDS_MAX = 30.0
"""Longest wait for one order to the API."""
SYNC_SECONDS_MAX = 60.0
SYNCHRONOUS_SAMPLES = 200
"""Acknowledged records that are looked up on the DR disk at once."""
CHANGED_BLOCKS_PER_DISK = 16
CHANGES_START_BYTES = 768 * MIB
"""Changes go behind the filesystem, the archive and the log, so that those stay readable."""
SHIPPED_RATIO_MAX = 1.05
SEED = 20_240_817
"""Of the writer's random blocks and of the places that change."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A production disk and its DR disk."""

    name: str
    production_id: str
    recovery_id: str
    uri: str
    production_file: Path
    recovery_file: Path


def run_demo(picture: Path | None) -> int:
    """Tell the story; return the exit status. `picture` is where an SVG of it goes."""
    narrator = Narrator()
    try:
        with _signals_interrupt():
            _tell(narrator)
    except KeyboardInterrupt:
        narrator.fail("interrupted; everything has been stopped and removed")
        return 1
    except (TwinsiteError, OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        narrator.fail(str(error))
        return 1
    if picture is not None:
        narrator.save_picture(picture, "twinsite demo")
    return 0


def _tell(narrator: Narrator) -> None:
    narrator.title("Twinsite: every write on two sites before the host hears “done”.")
    with temporary_directory() as directory, Installation(directory) as installation:
        try:
            _Story(narrator, installation, directory).tell()
        except KeyboardInterrupt:
            narrator.say("Stopping …")
            raise
        except Exception:
            narrator.live.print(installation.log_tails(), markup=False, soft_wrap=True)
            raise
        narrator.chapter("Clean up")
        part_count = len(installation.running_parts())
        if installation.stop():
            raise DemoFailed("'twinsite up' left processes behind, which the demo has ended")
    if directory.exists():
        raise DemoFailed(f"{directory} could not be removed")
    narrator.fact(f"Stopped {part_count} processes and removed {directory}. Nothing is left behind.")
    narrator.title(f"\nThat was the main job, in {narrator.seconds:.0f} seconds.")


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the story as Ctrl-C does; after the first signal, cleaning up is not disturbed."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Story:
    """The chapters, in order. Each raises `DemoFailed` when something does not come out as told."""

    def __init__(self, narrator: Narrator, installation: Installation, directory: Path) -> None:
        self._narrator = narrator
        self._installation = installation
        self._directory = directory
        self._disks: list[Disk] = []
        self._images: list[Image] = []

    def tell(self) -> None:
        """Tell and do everything up to the clean-up."""
        self._start()
        cloud = find_cloud(self._installation.data_dir, None, {}, self._directory)
        with Client(cloud) as api:
            self._make_disks(api)
            self._fill_disks()
            writer = LiveWriter(self._disks[2].uri, SEED)
            writer.start()
            try:
                group_id = self._pair_and_group(api)
                self._first_sync(api, group_id, writer)
                self._show_synchronous(writer)
            except BaseException:
                writer.abandon()
                raise
            writer.stop()
            self._prove_identical(writer)
            self._change_and_sync_again(api, group_id, writer)

    def _start(self) -> None:
        narrator = self._narrator
        narrator.chapter("Start two sites on this machine")
        narrator.code(f"$ twinsite up --data {self._installation.data_dir} --port 0")
        with narrator.live.status("starting"):
            self._installation.start()
        narrator.fact(f"One controller and two sites, az1 and az2, answer at {self._installation.url}")

    def _make_disks(self, api: Client) -> None:
        narrator = self._narrator
        narrator.chapter("Make three production disks in az1, and three DR disks in az2")
        names = ("files", "library", "journal")
        orders = [(name, PRODUCTION_SITE) for name in names] + [(f"{name}-dr", RECOVERY_SITE) for name in names]
        with narrator.live.status("creating six disks"):
            ordered = [api.create_volume(size_gib=DISK_GIB, zone=zone, name=name).id for name, zone in orders]
            for volume_id in ordered:
                api.wait_for_volume(volume_id, STEP_SECONDS_MAX)
            for name, production_id, recovery_id in zip(names, ordered[:3], ordered[3:], strict=True):
                connection = api.connect_volume(production_id, socket.gethostname())
                production_file = self._installation.pool_file(PRODUCTION_SITE, production_id)
                recovery_file = self._installation.pool_file(RECOVERY_SITE, recovery_id)
                uri = connection.uris[0]
                self._disks.append(Disk(name, production_id, recovery_id, uri, production_file, recovery_file))
        narrator.fact(f"Six disks of {DISK_GIB} GiB. A production disk has one NBD address for its whole life:")
        narrator.code(self._disks[0].uri)

    def _fill_disks(self) -> None:
        narrator = self._narrator
        narrator.chapter("Put real data on the production disks")
        builders: list[Callable[[Path], Image]] = [build_filesystem, build_library_tar]
        for disk, build in zip(self._disks, builders, strict=False):
            with narrator.live.status(f"building and copying the content of disk “{disk.name}”"):
                image = build(self._directory)
                with NbdClient(disk.uri) as connection:
                    copied_bytes = copy_to_disk(image.path, connection)
                image.path.unlink()
            self._images.append(image)
            narrator.fact(f"{disk.name}: {image.kind}, {image.file_count} files, {format_bytes(copied_bytes)}")
        narrator.fact("journal: a live writer appends numbered records and rewrites random blocks, from now on")

    def _pair_and_group(self, api: Client) -> str:
        narrator = self._narrator
        narrator.chapter("Pair each production disk with its DR disk, and group the pairs")
        with narrator.live.status("pairing and grouping"):
            pair_ids = [
                api.create_pair(
                    volume_ids=[disk.production_id, disk.recovery_id], priority_station=PRODUCTION_SITE, name=disk.name
                ).id
                for disk in self._disks
            ]
            for pair_id in pair_ids:
                api.wait_for_pair(pair_id, STEP_SECONDS_MAX)
            group = api.create_group(pair_ids=pair_ids, priority_station=PRODUCTION_SITE, name="shop")
            api.wait_for_group(group.id, STEP_SECONDS_MAX)
        narrator.fact("Three pairs, and the group “shop”: one direction, one stream, one common point in time")
        narrator.say(
            "The group's disks have moved to one worker process. Hosts that were connected connect again, to the same "
            "address, and so did the writer."
        )
        return group.id

    def _first_sync(self, api: Client, group_id: str, writer: LiveWriter) -> None:
        narrator = self._narrator
        narrator.chapter("Synchronize the group, while the writer keeps writing")
        self._show_request(api, group_id)
        before = writer.acknowledged
        resync = self._sync(api, group_id)
        if resync.kind != "full":
            raise DemoFailed(f"the first synchronization was {resync.kind}, not full")
        during = writer.acknowledged - before
        writer.check()
        narrator.fact(
            f"In sync. {format_bytes(resync.bytes_shipped)} of {format_bytes(3 * DISK_GIB * GIB)} crossed the link, "
            f"for the rest is empty. The writer wrote {during} records meanwhile."
        )

    def _show_request(self, api: Client, group_id: str) -> None:
        action = f"{api.access().endpoint}/{GROUPS}/{group_id}/action"
        endpoint = action[: action.index(GROUPS) - 1]
        self._narrator.code(f"POST {endpoint}")
        self._narrator.code(f"     {action.removeprefix(endpoint)}")
        self._narrator.code(json.dumps({SYNC_ACTION: None}))

    def _sync(self, api: Client, group_id: str) -> Resync:
        """Call the sync action, follow it with a bar, and return what the synchronization moved."""
        started_at = time.monotonic()
        api.sync_group(group_id)
        self._narrator.say(f"→ 200 OK, after {(time.monotonic() - started_at) * 1000:.0f} ms")
        bar = SyncBar(self._narrator.live, transient=True)
        with bar.shown():
            group = api.wait_for_sync(group_id, SYNC_SECONDS_MAX, progress=bar.update)
        self._narrator.show(bar.snapshot(f"in {time.monotonic() - started_at:.1f} s"))
        return _last_resync(group)

    def _show_synchronous(self, writer: LiveWriter) -> None:
        narrator = self._narrator
        narrator.chapter("See that replication is synchronous")
        recovery_file = self._disks[2].recovery_file
        give_up_at = time.monotonic() + STEP_SECONDS_MAX
        seen = 0
        last = 0
        while seen < SYNCHRONOUS_SAMPLES:
            writer.check()
            number = writer.acknowledged
            if number == last:
                if time.monotonic() >= give_up_at:
                    raise DemoFailed(f"the writer got no acknowledgement in {STEP_SECONDS_MAX:.0f} seconds")
                time.sleep(0.0005)
                continue
            if not checks.read_record(recovery_file, number):
                raise DemoFailed(f"record {number} was acknowledged and is not on the DR disk")
            seen, last = seen + 1, number
        narrator.fact(
            f"{seen} times in a row, a record was on the DR disk by the time the writer was told that it is written."
        )

    def _prove_identical(self, writer: LiveWriter) -> None:
        narrator = self._narrator
        narrator.chapter("Stop the writer, and prove that each DR disk is identical")
        narrator.say(
            f"The writer stopped after {writer.acknowledged} acknowledged records and no error. Its longest wait "
            f"for one was {writer.longest_wait_seconds * 1000:.0f} ms, the move to the group's worker included."
        )
        narrator.say(
            "Hashed from the files under the disks, past Twinsite: the offset and content of every block not empty."
        )
        self._compare_hashes()
        self._check_content(writer)

    def _compare_hashes(self) -> None:
        narrator = self._narrator
        with narrator.live.status("hashing six disks"):
            hashes = [
                (checks.content_sha256(disk.production_file), checks.content_sha256(disk.recovery_file))
                for disk in self._disks
            ]
        for disk, (production, recovery) in zip(self._disks, hashes, strict=True):
            if production != recovery:
                count = checks.differing_blocks(disk.production_file, disk.recovery_file)
                raise DemoFailed(f"the DR disk of {disk.name} differs from its production disk in {count} blocks")
            narrator.fact(f"{disk.name:8} SHA-256 of both disks {production[:32]}…")

    def _check_content(self, writer: LiveWriter) -> None:
        """Open what lies on the DR disks with tools that know nothing of Twinsite."""
        narrator = self._narrator
        files_image, library_image = self._images
        files, library, journal = (disk.recovery_file for disk in self._disks)
        if files_image.kind.startswith("an ISO"):
            if checks.count_iso_files(files) != files_image.file_count:
                raise DemoFailed("the ISO filesystem on the DR disk lacks files")
            narrator.fact(f"files-dr: all {files_image.file_count} files are there")
        elif checks.filesystem_is_clean(files) is False:
            raise DemoFailed("e2fsck finds errors in the filesystem on the DR disk")
        else:
            narrator.fact("files-dr: e2fsck finds the filesystem clean")
        if checks.count_tar_files(library) != library_image.file_count:
            raise DemoFailed("the archive on the DR disk lacks files")
        narrator.fact(f"library-dr: tar reads all {library_image.file_count} files")
        record_count = checks.count_records(journal)
        if record_count != writer.acknowledged:
            raise DemoFailed(f"the DR disk has {record_count} records, and {writer.acknowledged} were acknowledged")
        narrator.fact(f"journal-dr: all {record_count} records, none damaged, none missing")

    def _change_and_sync_again(self, api: Client, group_id: str, writer: LiveWriter) -> None:
        narrator = self._narrator
        narrator.chapter("Pause, write some more, synchronize again: only what changed travels")
        api.stop_group(group_id)
        changed_bytes = self._change_blocks(random.Random(SEED))
        differing = sum(checks.differing_blocks(disk.production_file, disk.recovery_file) for disk in self._disks)
        if differing * BLOCK_BYTES != changed_bytes:
            raise DemoFailed(f"{differing} blocks differ after {changed_bytes // BLOCK_BYTES} were changed")
        narrator.fact(
            f"Replication paused; {differing} scattered blocks of 64 KiB changed on the production disks "
            f"({format_bytes(changed_bytes)}); exactly these differ now"
        )
        self._show_request(api, group_id)
        resync = self._sync(api, group_id)
        shipped_bytes = resync.bytes_shipped
        if resync.kind != "delta" or not changed_bytes <= shipped_bytes <= changed_bytes * SHIPPED_RATIO_MAX:
            raise DemoFailed(f"a {resync.kind} synchronization shipped {shipped_bytes} bytes for {changed_bytes}")
        narrator.fact(
            f"{format_bytes(shipped_bytes)} crossed the link for {format_bytes(changed_bytes)} changed "
            f"(ratio {shipped_bytes / changed_bytes:.2f}), out of {format_bytes(3 * DISK_GIB * GIB)} of disks"
        )
        self._compare_hashes()

    def _change_blocks(self, chooser: random.Random) -> int:
        """Overwrite scattered blocks of each production disk; return the bytes written."""
        blocks = range(CHANGES_START_BYTES // BLOCK_BYTES, DISK_GIB * GIB // BLOCK_BYTES)
        for disk in self._disks:
            with NbdClient(disk.uri) as connection:
                for block in chooser.sample(blocks, CHANGED_BLOCKS_PER_DISK):
                    connection.write(block * BLOCK_BYTES, os.urandom(BLOCK_BYTES))
                connection.flush()
        return len(self._disks) * CHANGED_BLOCKS_PER_DISK * BLOCK_BYTES


def _last_resync(group: Group) -> Resync:
    resync = group.twinsite.last_resync if group.twinsite is not None else None
    if resync is None:
        raise DemoFailed(f"group {group.id} does not tell what its last synchronization moved")
    return resync
