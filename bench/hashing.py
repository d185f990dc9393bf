"""How fast the blocks of two files can be read and digested at most: xxhsum, on both at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.processes import run
from bench.results import Sample
from twinsite.core.limits import MIB

HASH_SECONDS_MAX = 600.0
HASH_TOOL = "xxhsum"


def hash_both(paths: Sequence[Path], directory: Path, size_bytes: int) -> Sample:
    """Let xxhsum read two files of `size_bytes`, each on a core of its own if there are two. Raises `BenchError`.

    The value is in MiB of one file a second.
    """
    one, other = paths
    command = ["sh", "-c", 'xxhsum -q -H3 "$0" & xxhsum -q -H3 "$1" && wait $!', str(one), str(other)]
    finished = run(command, directory / "xxhsum.log", HASH_SECONDS_MAX)
    return Sample(size_bytes / MIB / finished.seconds, size_bytes, finished.cpu_seconds)
