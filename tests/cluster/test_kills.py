"""Every kind of process is killed at random moments, while a host with dependent writes works.

Nobody helps: `up` and the nodes start again what died. After each kill the group is active again by itself, and in the
end its twins are equal. When all of a site is killed, the other one takes over, and shows one point in time with all
that was answered. `TWINSITE_KILL_ROUNDS` repeats it.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.api_group import Group
from tests.support.dependent_writer import DependentWriter
from tests.support.installation import Installation, wait_for
from tests.support.moving import SITES
from tests.support.parts import Parts
from twinsite.messages import Mode
from twinsite.pidfile import living_pid

ROUNDS = int(os.environ.get("TWINSITE_KILL_ROUNDS", "2"))
PATIENCE_SECONDS = 120.0
WRITES_MAX = 200
"""Before a kill the host has at most this many more of its writes answered."""
CONTROLLER = "controller/run/controller.pid"


@dataclass
class Story:
    """A group whose primary is az1, and its host."""

    installation: Installation
    group: Group
    host: DependentWriter
    source: random.Random

    def pid_files(self) -> dict[str, str]:
        """The pid file of each kind of process that works for the group."""
        return {
            "controller": CONTROLLER,
            "primary's node": "az1/run/node.pid",
            "secondary's node": "az2/run/node.pid",
            "primary worker": f"az1/run/w/{self.group.id}.pid",
            "secondary worker": f"az2/run/w/{self.group.id}.pid",
        }

    def serve(self) -> None:
        """Let the host go on, or begin, at the primary site. It checks first what it finds there."""
        self.host.start(self.group.connect_again("az1"))

    def kill(self, kinds: list[str]) -> None:
        """Kill processes at one random moment of the load, and wait for their successors."""
        paths = [self.installation.directory / self.pid_files()[kind] for kind in kinds]
        pids = [self.installation.pid(str(path.relative_to(self.installation.directory))) for path in paths]
        self.host.wait_for_more(self.source.randint(1, WRITES_MAX))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: all(living_pid(path) not in (None, pid) for path, pid in zip(paths, pids, strict=True)),
            f"new processes in place of {kinds}",
        )

    def settle(self, *, is_host_lost: bool) -> None:
        """Wait until the group is active again; the host goes on, after a new start if its worker was killed."""
        wait_for(self.installation.is_answering, "the API")
        self.installation.wait_connected()
        # The controller may still have what was true before the kill.
        wait_for(self._is_in_sync, "a primary in sync")
        self.group.wait_active()
        if is_host_lost:
            self.host.wait_ended()
            self.serve()
        self.host.wait_for_more(20)

    def _is_in_sync(self) -> bool:
        try:
            return self.group.worker_status("az1").mode is Mode.IN_SYNC
        except OSError:  # It is being started again.
            return False

    def check_twins(self) -> None:
        """Compare the twins while the host rests."""
        self.host.stop()
        assert self.host.answered == self.host.tried, "the host was told an error"
        self.group.assert_twins_equal()
        self.serve()


@pytest.fixture(name="story")
def fixture_story(installation: Installation) -> Iterator[Story]:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    group = Group(installation, 2)
    group.synchronize()
    story = Story(installation, group, DependentWriter(patience_seconds=PATIENCE_SECONDS), random.Random(seed))
    story.serve()
    yield story


KINDS = ["controller", "primary's node", "secondary's node", "primary worker", "secondary worker"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_process_is_killed_again_and_again(story: Story, kind: str) -> None:
    for _ in range(ROUNDS):
        story.kill([kind])
        story.settle(is_host_lost=kind == "primary worker")
    story.check_twins()
    story.host.stop()


def test_several_processes_are_killed_at_once(story: Story) -> None:
    for _ in range(ROUNDS):
        kinds = story.source.sample(KINDS, story.source.randint(2, len(KINDS)))
        print(f"killed: {kinds}")
        story.kill(kinds)
        story.settle(is_host_lost="primary worker" in kinds)
    story.check_twins()
    story.host.stop()


def test_a_whole_site_is_killed_and_the_other_takes_over_again_and_again() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    with ExitStack() as stack:
        parts = Parts(stack)
        parts.start_controller()
        for site in SITES:
            parts.start_node(site)
        group = Group(parts.installation, 2)
        group.synchronize()
        host = DependentWriter(patience_seconds=PATIENCE_SECONDS)
        host.start(group.connect("az1"))
        for number in range(ROUNDS):
            old, new = SITES[number % 2], SITES[(number + 1) % 2]
            host.wait_for_more(source.randint(1, WRITES_MAX))
            parts.kill_site(old)
            host.wait_ended()
            group.fail_over()
            host.start(group.connect(new))
            host.wait_for_more(source.randint(1, WRITES_MAX))
            parts.start_node(old)
            group.act("reprotect")
            group.wait_active()
        host.wait_for_more(20)
        host.stop()
        group.assert_twins_equal()
