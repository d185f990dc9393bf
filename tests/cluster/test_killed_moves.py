"""A process is killed in the middle of every action on a group, at a random moment, and nobody helps.

What was begun is resumed or undone by itself: the group comes to one of the ends that the action has, the host finds
everything that it was answered at the site that then serves, and the twins are equal in the end.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.api_group import Group
from tests.support.dependent_writer import DependentWriter
from tests.support.installation import Installation, wait_for

PATIENCE_SECONDS = 120.0
MOMENT_SECONDS_MAX = 0.3
"""The kill comes at most so long after the action was asked for."""
VICTIMS = ["controller", "node az1", "node az2", "worker az1", "worker az2"]


@dataclass
class Story:
    """A group, its host, and who is killed whenever something is asked for."""

    installation: Installation
    group: Group
    host: DependentWriter
    victim: str
    source: random.Random

    def pid(self) -> int:
        """Return the process that is to be killed."""
        part, _, site = self.victim.partition(" ")
        paths = {
            "controller": "controller/run/controller.pid",
            "node": f"{site}/run/node.pid",
            "worker": f"{site}/run/w/{self.group.id}.pid",
        }
        return self.installation.pid(paths[part])

    def ask_and_kill(self, ask: Callable[[], httpx.Response]) -> None:
        """Ask for something, and kill the victim a moment later. Who gets no answer asks again, as clients do."""
        moment = self.source.uniform(0.0, MOMENT_SECONDS_MAX)
        print(f"kill after {moment:.3f} s")
        pid, before = self.pid(), self.group.show()["updated_at"]
        killing = threading.Timer(moment, os.kill, (pid, signal.SIGKILL))
        killing.start()

        def is_asked() -> bool:
            try:
                answer = ask()
                is_begun = self.group.show()["updated_at"] != before if answer.status_code in (400, 409) else False
            except (httpx.TransportError, AssertionError):  # It is being started again.
                return False
            if answer.status_code == 400 and ("is 'inactive'" in answer.text or "is stale" in answer.text):
                return False  # The worker was killed before this was asked, and the group heals.
            assert answer.status_code in (200, 202, 503) or is_begun, answer.text
            return answer.status_code != 503

        wait_for(is_asked, "an answer")
        killing.join()
        wait_for(self.installation.is_answering, "the API")
        self.installation.wait_connected()

    def act(self, name: str, argument: object = None) -> Callable[[], httpx.Response]:
        """Return the asking for an action."""
        path = f"/os-vendor-replication-consistency-groups/{self.group.id}/action"
        body = {f"os-{name}-replication-consistency-group": argument}
        return lambda: self.installation.raw("POST", path, body, version="v2")

    def change(self, **fields: object) -> Callable[[], httpx.Response]:
        """Return the asking for a change."""
        path = f"/os-vendor-replication-consistency-groups/{self.group.id}"
        body = {"replication_consistency_group": fields}
        return lambda: self.installation.raw("PUT", path, body, version="v2")

    def settled(self) -> str:
        """Wait until the group is in no transitional status; return the one that it is in."""
        shown: list[str] = []

        def is_settled() -> bool:
            shown[:] = [self.group.show()["status"]]
            return shown[0] in ("available", "failovered") or shown[0].startswith("error")

        wait_for(is_settled, lambda: f"the end of {shown}")
        return shown[0]

    def serve(self) -> None:
        """Let the host begin at the site that is the primary now. It checks first that all it was answered is there."""
        self.host.start(self.group.connect_again(self.group.show()["priority_station"]))
        self.host.wait_for_more(5)

    def be_active(self) -> None:
        """Synchronize, unless replication is active already, and wait for the promise."""
        if self.group.show()["replication_status"] != "active":
            wait_for(lambda: self.act("sync")().status_code != 503, "the nodes")
        self.group.wait_active()


@pytest.fixture(params=VICTIMS, name="story")
def fixture_story(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Story]:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    wait_for(installation.is_answering, "the API")
    installation.wait_connected()
    group = Group(installation, 2)
    group.synchronize()
    host = DependentWriter(patience_seconds=PATIENCE_SECONDS)
    story = Story(installation, group, host, request.param, random.Random(seed))
    story.serve()
    yield story


def test_a_process_is_killed_in_the_middle_of_each_action(story: Story) -> None:
    group, host = story.group, story.host

    story.ask_and_kill(story.act("reverse"))
    assert story.settled() in ("available", "error_reversing"), "neither reversed nor rolled back"
    story.be_active()
    host.stop()  # Unless the switchover, or one that was given up, has let it go already.
    story.serve()

    story.ask_and_kill(story.act("stop"))
    # A primary that was killed does not know whether its secondary is consistent, and shows inactive.
    wait_for(lambda: group.show()["twinsite"]["mode"] == "paused", lambda: f"a stop: {group.show()}")
    assert group.show()["replication_status"] in ("active-stopped", "inactive")
    story.be_active()

    source = group.show()["priority_station"]
    story.ask_and_kill(story.act("failover"))
    # A worker that was killed before is not started again at once, and the failover counts as failed for so long.
    wait_for(lambda: group.show()["status"] == "failovered", lambda: f"a served DR side: {group.show()}")
    assert group.show()["priority_station"] != source
    host.stop()
    story.serve()

    story.ask_and_kill(story.act("reprotect"))
    assert story.settled() == "available"
    group.wait_active()
    host.stop()
    group.assert_twins_equal()


def test_a_process_is_killed_while_a_pair_leaves_and_comes_back(story: Story) -> None:
    group, host = story.group, story.host
    host.stop()
    group.act("stop")
    wait_for(lambda: group.show()["replication_status"] == "active-stopped", "a stop")
    leaving = group.pair_ids[1]

    story.ask_and_kill(story.change(remove_replication_ids=[leaving]))
    assert story.settled() == "available"
    assert group.show()["replication_ids"] == [group.pair_ids[0]]

    story.ask_and_kill(story.change(add_replication_ids=[leaving]))
    assert story.settled() == "available"
    assert group.show()["replication_ids"] == group.pair_ids
    story.be_active()
    story.serve()
    host.stop()
    group.assert_twins_equal()
