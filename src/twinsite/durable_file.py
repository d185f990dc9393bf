"""Small files that are there completely or not at all, whatever crashes."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write `content` under a temporary name, make it durable, and put it in the place of `path`. Raises `OSError`.

    A reader sees the old file or the new one. The mode is set before anything is written, so a secret is never
    readable by others.
    """
    unfinished = path.with_name(f"{path.name}.new")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path | str) -> None:
    """Make the entries of a directory durable; an empty path is the current one. Raises `OSError`."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
