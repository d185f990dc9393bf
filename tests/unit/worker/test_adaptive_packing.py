"""When a resync is compressed: the rule alone, in virtual time, against links and data of all kinds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from twinsite.core.limits import MIB, RESYNC_IN_FLIGHT_BYTES_MAX
from twinsite.worker.adaptive_packing import (
    KEPT_WINDOWS,
    TRIED_BELOW_BYTES_A_SECOND,
    WINDOW_BYTES,
    WINDOW_SECONDS,
    AdaptivePacking,
)

FRAME_BYTES = MIB


@dataclass
class Copy:
    """A copy over a link: `link` and `packing_speed` in bytes a second, data that gets smaller by `factor`."""

    packing: AdaptivePacking
    link: float
    factor: float
    packing_speed: float = 400.0 * MIB
    in_flight_bytes: int = RESYNC_IN_FLIGHT_BYTES_MAX
    now: float = 0.0
    arrived_bytes: int = 0
    sequence: int = 0
    packed_frames: int = 0

    def run(self, frames: int) -> None:
        """Let so many frames arrive, each acknowledged at once."""
        for _ in range(frames):
            rate = self.link
            if self.packing.is_on:
                rate = min(self.link * self.factor, self.packing_speed)
                self.packed_frames += 1
            self.now += FRAME_BYTES / rate
            self.arrived_bytes += FRAME_BYTES
            self.sequence += 1
            self.packing.look(self.now, self.arrived_bytes, self.in_flight_bytes, self.sequence, self.sequence + 8)


@pytest.fixture
def packing() -> AdaptivePacking:
    packing = AdaptivePacking()
    packing.begin(is_possible=True)
    return packing


def test_a_slow_link_and_data_that_gets_smaller_are_packed_but_for_a_look_now_and_then(
    packing: AdaptivePacking,
) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=3.0)
    copy.run(20_000)
    assert copy.packed_frames > 0.95 * 20_000
    assert copy.now < 1.1 * 20_000 / 300


def test_data_that_does_not_get_smaller_is_tried_ever_more_rarely(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=1.0)
    copy.run(5_000)
    early = copy.packed_frames
    assert 0 < early < 0.15 * 5_000
    copy.run(20_000)
    assert copy.packed_frames - early < 0.15 * 20_000


def test_a_processor_that_packs_more_slowly_than_the_link_is_left_alone(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=3.0, packing_speed=50.0 * MIB)
    copy.run(20_000)
    assert copy.packed_frames < 0.2 * 20_000


def test_a_fast_link_is_never_tried(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=1.01 * TRIED_BELOW_BYTES_A_SECOND, factor=3.0)
    copy.run(20_000)
    assert copy.packed_frames == 0


def test_a_link_that_runs_dry_is_not_what_is_slow(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=3.0, in_flight_bytes=RESYNC_IN_FLIGHT_BYTES_MAX // 4 - 1)
    copy.run(5_000)
    assert copy.packed_frames == 0


def test_a_secondary_that_cannot_unpack_gets_nothing_packed(packing: AdaptivePacking) -> None:
    packing.begin(is_possible=False)
    copy = Copy(packing, link=MIB, factor=10.0)
    copy.run(1_000)
    assert copy.packed_frames == 0


def test_each_session_begins_without(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=3.0)
    copy.run(200)
    assert packing.is_on
    packing.begin(is_possible=True)
    assert not packing.is_on


def test_a_link_that_became_fast_is_noticed(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=3.0)
    copy.run(1_000)
    assert packing.is_on
    copy.link = 1000.0 * MIB
    copy.run(int(KEPT_WINDOWS * WINDOW_SECONDS * 400) + 100)
    before = copy.packed_frames
    copy.run(20_000)
    assert copy.packed_frames == before


def test_what_was_sent_before_a_change_is_not_measured_after_it(packing: AdaptivePacking) -> None:
    packing.look(0.0, 0, RESYNC_IN_FLIGHT_BYTES_MAX, 1, 10)
    packing.look(WINDOW_SECONDS, WINDOW_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, 2, 20)
    assert packing.is_on
    for step in range(1, 100):  # All of this was on its way before.
        packing.look(WINDOW_SECONDS + step, (1 + step) * WINDOW_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, 19, 200)
    assert packing.is_on
    packing.look(200.0, 100 * WINDOW_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, 20, 200)
    packing.look(300.0, 101 * WINDOW_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, 30, 200)
    assert not packing.is_on, "what was sent after it is measured"


def test_a_link_that_ran_dry_once_in_a_window_is_not_tried_in_it(packing: AdaptivePacking) -> None:
    full = RESYNC_IN_FLIGHT_BYTES_MAX
    packing.look(0.0, 0, full, 1, 10)
    packing.look(WINDOW_SECONDS / 2, WINDOW_BYTES // 2, 0, 2, 10)
    packing.look(WINDOW_SECONDS, WINDOW_BYTES, full, 3, 10)
    assert not packing.is_on
    packing.look(2 * WINDOW_SECONDS, 2 * WINDOW_BYTES, full, 4, 10)
    packing.look(3 * WINDOW_SECONDS, 3 * WINDOW_BYTES, full, 5, 10)
    assert packing.is_on


def test_a_very_slow_link_is_measured_over_as_much_as_is_on_its_way(packing: AdaptivePacking) -> None:
    packing.look(0.0, 0, RESYNC_IN_FLIGHT_BYTES_MAX, 1, 10)
    for step in range(1, 8):
        packing.look(10.0 * step, step * WINDOW_BYTES // 8, RESYNC_IN_FLIGHT_BYTES_MAX, 1 + step, 10)
        assert not packing.is_on
    packing.look(80.0, WINDOW_BYTES, RESYNC_IN_FLIGHT_BYTES_MAX, 9, 10)
    assert packing.is_on


def test_a_disk_of_both_kinds_is_packed_where_that_pays(packing: AdaptivePacking) -> None:
    copy = Copy(packing, link=100.0 * MIB, factor=1.0)
    packed_of: dict[float, int] = {1.0: 0, 3.0: 0}
    for stretch in range(60):
        before, copy.factor = copy.packed_frames, 3.0 if stretch % 2 else 1.0
        copy.run(1024)
        packed_of[copy.factor] += copy.packed_frames - before
    assert packed_of[3.0] > 30 * 1024 * 0.6
    assert packed_of[1.0] < 30 * 1024 * 0.3
