"""The cases, by name, in the order in which they run. Each takes a `Context` and returns a `CaseResult`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.cases.comparing import comparing
from bench.cases.control import control
from bench.cases.delta import ONE_PERCENT, TEN_PERCENT, delta_resync
from bench.cases.distance import distance
from bench.cases.full_sync import DENSE, PATCHY, SPARSE, ZEROS, full_sync
from bench.cases.groups import disks, groups
from bench.cases.holds import holds
from bench.cases.intents import from_cold, hot_set
from bench.cases.many_moves import many_moves
from bench.cases.moves import interruption, moves
from bench.cases.packing import packing
from bench.cases.recovery import recovery
from bench.cases.resyncing import resyncing
from bench.cases.writes import writes
from bench.fio import (
    CONNECTIONS,
    FLUSHED,
    FUA,
    MIXED,
    QD1,
    QD8,
    QD32,
    QD128,
    READ_QD1,
    READ_QD32,
    SEQUENTIAL,
)
from bench.results import CaseResult
from bench.running import Context

_WRITES = (QD1, QD8, QD32, QD128, CONNECTIONS, SEQUENTIAL, FLUSHED, FUA)
_READS = (READ_QD1, READ_QD32, MIXED)
_COPIES = (DENSE, PATCHY, ZEROS, SPARSE)
_DELTAS = (ONE_PERCENT, TEN_PERCENT)

CASES: Mapping[str, Callable[[Context], CaseResult]] = {
    **{pattern.name: partial(writes, pattern) for pattern in (*_WRITES, *_READS)},
    **{content.name: partial(full_sync, content) for content in _COPIES},
    **{dirtying.name: partial(delta_resync, dirtying) for dirtying in _DELTAS},
    "resyncing": resyncing,
    "intents-hot": hot_set,
    "intents-cold": from_cold,
    "recovery": recovery,
    "comparing": comparing,
    "interruption": interruption,
    "holds": holds,
    "moves": moves,
    "groups": groups,
    "disks": disks,
    "distance": distance,
    "packing": packing,
    "many-moves": many_moves,
    "control": control,
}

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "writes": (*(pattern.name for pattern in _WRITES), "resyncing"),
    "reads": tuple(pattern.name for pattern in _READS),
    "copies": (*(content.name for content in _COPIES), *(dirtying.name for dirtying in _DELTAS), "comparing"),
    "many": ("groups", "disks", "many-moves"),
    "intents": ("intents-hot", "intents-cold"),
    "failures": ("recovery", "interruption", "holds", "moves"),
}
"""Names that stand for several cases on the command line."""
