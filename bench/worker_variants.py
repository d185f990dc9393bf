"""Workers that no installation has: `python -m bench.worker_variants VARIANT ARGUMENTS OF A WORKER`.

`no-records` writes no intent log, and `no-scan` does not look for cold extents either; after a crash of these
nobody knows what may differ. `quick-cooling` lets extents go cold in a second instead of a minute. `no-packing`
compresses nothing. Each is the worker of `twinsite.worker` with parts replaced in this process, so that the product
needs no switch for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from twinsite.core.tracking.intents import HOT, IntentMap
from twinsite.worker import cooling, intent_log, primary_group, starting
from twinsite.worker.__main__ import main as worker_main
from twinsite.worker.adaptive_packing import AdaptivePacking
from twinsite.worker.mirrored_device import MirroredDevice
from twinsite.worker.store_device import StoreDevice

QUICK_AGE_SECONDS = 0.3


class AllHot(IntentMap):
    """Every extent counts as recorded, always."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.states = bytearray([HOT]) * self.extent_count

    def clear(self, first: int, count: int) -> None:
        """Nothing goes cold."""

    def age(self) -> None:
        """Nothing grows old."""


class NoCooling:
    """Takes the place of the rounds that flush both sides to let extents go cold."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def close(self) -> None:
        """There is nothing to end."""


def _no_records(stack: ExitStack) -> None:
    for module in (intent_log, starting):
        stack.enter_context(patch.object(module, "IntentMap", AllHot))
    stack.enter_context(patch.object(primary_group, "Cooling", NoCooling))


def _no_scan(stack: ExitStack) -> None:
    _no_records(stack)
    stack.enter_context(patch.object(MirroredDevice, "_execute", StoreDevice.submit))


def _no_packing(stack: ExitStack) -> None:
    stack.enter_context(patch.object(AdaptivePacking, "look", lambda *_: None))


def _quick_cooling(stack: ExitStack) -> None:
    stack.enter_context(patch.object(cooling, "INTENT_AGE_SECONDS", QUICK_AGE_SECONDS))


VARIANTS: Mapping[str, Callable[[ExitStack], None]] = {
    "no-records": _no_records,
    "no-scan": _no_scan,
    "quick-cooling": _quick_cooling,
    "no-packing": _no_packing,
}


def main() -> int:
    """Run the worker with the parts of a variant; return its exit status, 2 when there is no such variant."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in VARIANTS:
        print(f"there is no variant {name!r}, but {', '.join(VARIANTS)}", file=sys.stderr)
        return 2
    del sys.argv[1]
    with ExitStack() as stack:
        VARIANTS[name](stack)
        return worker_main()


if __name__ == "__main__":
    sys.exit(main())
