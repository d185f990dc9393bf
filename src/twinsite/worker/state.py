"""The durable state of a replica: `replica.json` and one dirty map a volume, in the worker's state directory.

A file is replaced whole (write, fsync, rename, fsync of the directory), so a crash leaves the old one or the new one.
That takes space, which a full file system does not have. So that a flush failed, which nobody could find out later, is
also marked in a file of its own, which lies there from the beginning and is written in place.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from xxhash import xxh3_128_digest

from twinsite.core.stream.hello import Doubt
from twinsite.core.tracking.dirty_map import DirtyMap
from twinsite.durable_file import Files, SystemFiles
from twinsite.errors import PeerViolation, StorageFault
from twinsite.messages import from_wire, to_wire

_DIGEST_BYTES = 16
_MARK_CLEAR, _MARK_SET = b"flushes: fine  \n", b"flushes: failed\n"
assert len(_MARK_CLEAR) == len(_MARK_SET), "the one is written over the other"


class MapKind(StrEnum):
    """The maps of a member that a clean stop saves."""

    DIRTY = "dirty"
    SUSPECT = "suspect"


@dataclass(slots=True)
class ReplicaState:
    """What a replica must remember. Both roles' parts are kept, since roles change."""

    format: int = 1
    term: int = 0
    is_primary: bool = False  # In that term.
    knows_nothing: bool = False  # It was born when the arbiter's row was not trusted, and has nothing to add to that.
    row_version: int = 0  # Of the arbiter's row that last let this side go on alone.
    row_stale_since: float | None = None  # As that row has it.
    believed_version: int = 0  # The row had this version at least when it was restored and believed again.
    images: list[str] = field(default_factory=list)  # The files that all this was said of: "volume#index identity".
    # As the primary: what the saved dirty maps are worth.
    is_clean: bool = False  # The maps were saved at a clean stop, and nothing was written since.
    generations: list[str] = field(default_factory=list)  # Lineages that the maps and the intent log are good for.
    primary_boot_id: str | None = None  # The boot under which a primary last ran here.
    sequence: int = 0
    peer_consistent: bool = False
    peer_has_all: bool = False  # Every acknowledged write is at the secondary, of one of the generations.
    may_lack_writes: bool = False  # Acknowledged writes may be missing here, and nobody has accepted that.
    # As the secondary: what this image is worth.
    generation: str = ""
    is_consistent: bool = False
    consistent_at: float | None = None  # When a consistent image last followed, in seconds since the epoch.
    unstable_boot_id: str | None = None  # Writes were applied under this boot and perhaps not flushed.
    led: list[str] = field(default_factory=list)  # Lineages that this image is of, outside of its intent log.
    # As either.
    doubt: Doubt = Doubt.NONE  # What was applied may be lost.
    loss_acceptances: int = 0  # How often an operator has accepted that writes are lost, as last heard.

    def joined(self, volumes: Iterable[tuple[str, int]]) -> set[str]:
        """Return those of these volumes, by id and index, of which all this was not said; none if it names no volume.

        A volume that leaves the group and comes back gets another index, and what happened to it meanwhile is not known
        here. Earlier releases remembered no index.
        """
        names = {image.rpartition(" ")[0] for image in self.images}
        if not names:
            return set()
        return {volume_id for volume_id, index in volumes if names.isdisjoint((f"{volume_id}#{index}", volume_id))}

    def replace_images(self, images: Mapping[tuple[str, int], str]) -> set[str]:
        """Remember the files of these volumes, by id and index; return those whose file is another than was remembered.

        What this state says is not true of such a file: somebody has put a copy or a backup in its place.
        """
        stored = (image.rpartition(" ") for image in self.images)
        known = {name.partition("#")[0]: identity for name, _, identity in stored}
        self.images = [f"{volume_id}#{index} {identity}" for (volume_id, index), identity in sorted(images.items())]
        return {volume_id for (volume_id, _), identity in images.items() if known.get(volume_id, identity) != identity}


class StateDirectory:
    """The state directory of one worker. Every method blocks; a failure raises `StorageFault`."""

    def __init__(self, path: Path | str, files: Files | None = None) -> None:
        self.path = Path(path)
        self.files = files if files is not None else SystemFiles()
        self._replica_path = self.path / "replica.json"
        self._mark_path = self.path / "flushes"
        self._is_marked: bool | None = None  # As far as it is known.
        self.undo_path = self.path / "undo.log"
        self.intent_path = self.path / "intents.log"
        self._lock = threading.Lock()

    def load(self) -> ReplicaState:
        """Return the saved state, or a new one when none was ever saved. A flush that failed is part of it in any case.

        A file that cannot be understood raises `StorageFault`: guessing here could declare stale data good.
        """
        state = self._load_saved()
        self._is_marked = None
        if self._read_mark():
            state.doubt = Doubt.FLUSH_FAILED
        return state

    def _load_saved(self) -> ReplicaState:
        try:
            self.files.make_directory(self.path)
            stored = self.files.read(self._replica_path)
        except FileNotFoundError:
            return ReplicaState()
        except OSError as error:
            raise StorageFault("read", str(self._replica_path), error) from error
        try:
            state = from_wire(ReplicaState, json.loads(stored), "replica.json")
        except (ValueError, RecursionError, PeerViolation) as error:
            raise StorageFault(
                "read", str(self._replica_path), f"not a replica state ({error}); remove it to force a full resync"
            ) from None
        if state.format != 1:
            raise StorageFault("read", str(self._replica_path), f"format {state.format} is newer than this release")
        return state

    def save(self, state: ReplicaState) -> None:
        """Make the state durable as it is now. Any thread may call: who comes last saves the newest.

        The space for the mark of a failed flush is taken first. That mark is set before, and cleared after the rest is
        durable; it may be set although the rest could not be saved.
        """
        with self._lock:
            if self._read_mark() is None:
                self._replace(self._mark_path, _MARK_CLEAR)
                self._is_marked = False
            has_failed = state.doubt is Doubt.FLUSH_FAILED
            if has_failed and not self._is_marked:
                with suppress(StorageFault):  # What is saved next says the same.
                    self._write_mark(_MARK_SET)
            self._replace(self._replica_path, json.dumps(to_wire(state), indent=1).encode() + b"\n")
            if not has_failed and self._is_marked:
                self._write_mark(_MARK_CLEAR)

    def save_map(self, kind: MapKind, index: int, volume_id: str, blocks: DirtyMap) -> None:
        """Make a map of a member durable.

        A volume that leaves the group and comes back gets another index. So a map that was saved before, and knows
        nothing of what happened to the two disks meanwhile, is not taken for the new member's.
        """
        data = blocks.to_bytes()
        self._replace(self._map_path(kind, index, volume_id), xxh3_128_digest(data) + data)

    def load_map(self, kind: MapKind, index: int, volume_id: str, size_bytes: int) -> DirtyMap | None:
        """Return a member's saved map, or None when there is none that can be trusted."""
        path = self._map_path(kind, index, volume_id)
        try:
            stored = self.files.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault("read", str(path), error) from error
        digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if xxh3_128_digest(data) != digest:
            return None
        try:
            return DirtyMap.from_bytes(size_bytes, data)
        except PeerViolation:
            return None

    def forget_maps(self, index: int, volume_id: str) -> None:
        """Remove a member's maps: the volume has left the group."""
        for kind in MapKind:
            self.files.remove(self._map_path(kind, index, volume_id))

    def _map_path(self, kind: MapKind, index: int, volume_id: str) -> Path:
        return self.path / f"{volume_id}.{index}.{kind}"

    def _read_mark(self) -> bool | None:
        """Return whether a flush is marked as failed; None when there is no mark yet. Half a mark counts."""
        if self._is_marked is None:
            try:
                self._is_marked = self.files.read(self._mark_path) != _MARK_CLEAR
            except FileNotFoundError:
                return None
            except OSError as error:
                raise StorageFault("read", str(self._mark_path), error) from error
        return self._is_marked

    def _write_mark(self, content: bytes) -> None:
        self._is_marked = content != _MARK_SET  # If it fails, it is done again.
        try:
            mark = self.files.open_log(self._mark_path)
            try:
                mark.write([content], 0)
                mark.sync()
            finally:
                mark.close()
        except OSError as error:
            raise StorageFault("save", str(self._mark_path), error) from error
        self._is_marked = content == _MARK_SET  # Now it is durable.

    def _replace(self, path: Path, data: bytes) -> None:
        try:
            self.files.replace(path, data)
        except OSError as error:
            raise StorageFault("save", str(path), error) from error


def doubt_of(state: ReplicaState, boot_id: str) -> Doubt:
    """Return why a secondary's image may lack what was applied to it."""
    if state.doubt is Doubt.NONE and state.unstable_boot_id not in (None, boot_id):
        return Doubt.RESTARTED
    return state.doubt


def read_boot_id() -> str:
    """Return the kernel's name of this boot: it changes when the machine restarts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
