"""What a node must remember across restarts: whose node it is, which volumes it has made, and their TCP ports."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twinsite.durable_file import replace_file
from twinsite.errors import ConfigurationError, StorageFault


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A volume that was made: its size in bytes and its TCP port, if it has one.

    `room_bytes` is the size up to which its store may have been made larger: an extension that was undone leaves that.
    """

    size_bytes: int
    nbd_port: int | None = None
    room_bytes: int = 0


@dataclass(slots=True)
class NodeRecord:
    """The content of node.json. Change it through the methods: they make the change durable first."""

    path: Path
    installation_id: str | None = None
    volumes: dict[str, VolumeRecord] = field(default_factory=dict)
    _is_batched: bool = field(default=False, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> NodeRecord:
        """Read the record, or begin an empty one. Raises `ConfigurationError` for a file that cannot be understood."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            volumes = {volume_id: VolumeRecord(**volume) for volume_id, volume in content["volumes"].items()}
            return cls(path, content["installation_id"], volumes)
        except FileNotFoundError:
            return cls(path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{path} is damaged ({error}); restore it from a backup") from error

    def set_installation(self, installation_id: str) -> None:
        """Remember whose node this is. Raises `StorageFault`."""
        self._save(dataclasses.replace(self, installation_id=installation_id))
        self.installation_id = installation_id

    def set_volume(self, volume_id: str, volume: VolumeRecord | None) -> None:
        """Remember a volume, or forget it; durable at once, or at the end of the batch. Raises `StorageFault`."""
        if self.volumes.get(volume_id) == volume:
            return
        if self._is_batched:
            if volume is not None:
                self.volumes[volume_id] = volume
            else:
                del self.volumes[volume_id]
            return
        volumes = {key: value for key, value in self.volumes.items() if key != volume_id}
        if volume is not None:
            volumes[volume_id] = volume
        self._save(dataclasses.replace(self, volumes=volumes))
        self.volumes = volumes

    @contextlib.contextmanager
    def batched(self) -> Iterator[None]:
        """Make what the block changes of volumes durable at its end, in one write.

        Raises `StorageFault` there, and then nothing has changed.
        """
        before = self.volumes
        self.volumes, self._is_batched = dict(before), True
        try:
            yield
            if self.volumes != before:
                self._save(self)
        except BaseException:
            self.volumes = before
            raise
        finally:
            self._is_batched = False

    def _save(self, changed: NodeRecord) -> None:
        content = {
            "installation_id": changed.installation_id,
            "volumes": {volume_id: dataclasses.asdict(volume) for volume_id, volume in changed.volumes.items()},
        }
        try:
            replace_file(self.path, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise StorageFault("write", str(self.path), error) from error
