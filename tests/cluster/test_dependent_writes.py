"""A host with writes that depend on each other across two volumes, while everything breaks and the group moves.

After each unforced promotion the new primary shows every number that was answered, and one point in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.support.dependent_writer import DependentWriter
from tests.support.link import Link, Way
from tests.support.moving import follow, hand_over, lead, other, wait_in_sync, wait_serving
from tests.support.pairs import MakePair, assert_equal, pair_maker
from tests.support.worker_process import WorkerPair
from twinsite.core.limits import MIB
from twinsite.messages import Mode

ROUNDS = 8


@pytest.fixture(name="make_pair")
def fixture_make_pair() -> Iterator[MakePair]:
    with pair_maker() as make:
        yield make


class Story:
    """A pair, its link, its host, and the random things that happen to them."""

    def __init__(self, pair: WorkerPair, source: random.Random) -> None:
        self.pair = pair
        self.source = source
        self.link = Link("127.0.0.1:1")
        self.host = DependentWriter()
        self.site = "az1"
        self.promotions = 0

    def begin(self) -> None:
        for worker in (self.pair.primary, self.pair.secondary):
            worker.start()
        self.mirror()
        self.serve()

    def mirror(self) -> None:
        """Let the site that is not primary follow, by the link, and wait until it is in sync."""
        self.link.flow()
        self.link.target = follow(self.pair, other(self.site))
        wait_in_sync(self.pair, self.site, lead(self.pair, self.site, self.link.endpoint))

    def serve(self) -> None:
        """Let the host work at the primary; it checks first what it finds there."""
        wait_serving(self.pair, self.site)
        self.host.start([self.pair.uri(index, self.site) for index in range(2)])

    def revive(self, site: str) -> None:
        """Start a dead worker."""
        worker = self.pair.worker(site)
        worker.kill()
        worker.start()

    def promote(self) -> None:
        """Promote the other site if that loses nothing; otherwise the old primary goes on."""
        old, new = self.site, other(self.site)
        if self.pair.arbiter.promote_if_in_sync(new):
            self.promotions += 1
            self.site = new
        else:
            self.revive(old)
        lead(self.pair, self.site)

    # What can happen

    def blips(self) -> None:
        """The link breaks again and again, with or without the arbiter."""
        self.pair.arbiter.is_reachable = self.source.random() < 0.5
        for _ in range(self.source.randint(1, 4)):
            self.link.cut()
            self.host.wait_for_more(self.source.randint(1, 10))
        self.pair.arbiter.is_reachable = True
        wait_in_sync(self.pair, self.site)

    def secondary_dies(self) -> None:
        """The secondary is killed and comes back, before or after the arbiter lets the primary go on."""
        self.pair.arbiter.is_reachable = self.source.random() < 0.5
        self.revive(other(self.site))
        self.link.target = follow(self.pair, other(self.site))
        self.host.wait_for_more(5)
        self.pair.arbiter.is_reachable = True
        self.mirror()

    def primary_dies(self) -> None:
        """The primary is killed and the other site promoted."""
        old = self.site
        self.pair.worker(old).kill()
        self.host.wait_ended()
        self.promote()
        self.serve()
        self.host.wait_for_more(5)
        if self.site != old:
            self.revive(old)
        self.mirror()

    def link_and_primary_die(self) -> None:
        """The link is cut, and a moment later the primary is killed: it may have gone on alone meanwhile."""
        self.pair.arbiter.is_reachable = self.source.random() < 0.5
        self.link.cut(stay_down=True)
        if self.pair.arbiter.is_reachable:
            self.host.wait_for_more(self.source.randint(1, 5))
        self.pair.worker(self.site).kill()
        self.host.wait_ended()
        self.pair.arbiter.is_reachable = True
        self.link.flow()
        old = self.site
        self.promote()
        self.serve()
        if self.site != old:
            self.revive(old)
        self.mirror()

    def promotion_under_a_living_primary(self) -> None:
        """The other site is promoted while the primary works; the primary finds out by itself."""
        old = self.site
        if self.source.random() < 0.5:
            self.link.cut(stay_down=True)
        if not self.pair.arbiter.promote_if_in_sync(other(old)):
            self.mirror()
            return
        self.promotions += 1
        self.site = other(old)
        lead(self.pair, self.site)
        self.host.wait_ended()
        self.pair.worker(old).wait(lambda s: s.mode is Mode.REPLACED, "replaced")
        self.serve()
        self.host.wait_for_more(5)
        self.mirror()

    def switchover(self) -> None:
        """The group moves as planned."""
        old, new = self.site, other(self.site)
        hand_over(self.pair, old, self.link.endpoint)
        self.host.wait_ended()
        self.pair.arbiter.switch(new)
        self.site = new
        self.mirror()
        status = self.pair.worker(new).status
        assert status is not None
        assert status.resync is None, "a planned switchover copied something"
        self.serve()

    def events(self) -> list[Callable[[], None]]:
        """Everything that can happen."""
        return [
            self.blips,
            self.secondary_dies,
            self.primary_dies,
            self.link_and_primary_die,
            self.promotion_under_a_living_primary,
            self.switchover,
        ]


@pytest.mark.parametrize("seed", range(4))
def test_every_image_that_was_ever_promoted_is_one_point_in_time_with_all_that_was_answered(
    make_pair: MakePair, seed: int
) -> None:
    print(f"seed {seed}")
    story = Story(make_pair([MIB, MIB]), random.Random(seed))
    try:
        story.begin()
        for _ in range(ROUNDS):
            story.host.wait_for_more(story.source.randint(1, 40))
            event = story.source.choice(story.events())
            for way in Way:
                story.link.delay_seconds[way] = story.source.choice([0.0, 0.0, 0.002])
            print(event.__name__, story.site, story.host.answered)
            event()
        story.host.wait_for_more(20)
        story.host.stop()
        assert story.promotions > 0
        wait_in_sync(story.pair, story.site)
        assert_equal(story.pair)
    finally:
        story.link.close()
