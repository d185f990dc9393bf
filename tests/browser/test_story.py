"""The whole of it with the page alone: protect a disk, write, lose the site, fail over, bring it back, return."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.browser import User
from tests.support.console import steps
from tests.support.installation import WAIT_SECONDS_MAX, Installation, open_client
from twinsite.embedded.rehearsal import return_site

DATA = bytes(range(1, 256)) * 16
BLOCKS = 256
LATER = bytes(reversed(DATA))
GUIDE = Path(__file__).parents[2] / "docs/page.md"
DONE_BY_THE_TEST = ("export ", "ADDRESS=")
PLACE = 1024**2
"""Where the test writes what the guide does not."""


class Terminal:
    """Runs the commands of the guide, one after the other."""

    def __init__(self, installation: Installation) -> None:
        self._todo = steps(GUIDE.read_text(encoding="utf-8"), DONE_BY_THE_TEST)
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TWINSITE_DATA": str(installation.directory),
        }

    def run_next(self, words: str, address: str = "") -> None:
        """Run the next command, which must have these words, and compare what it prints with the guide."""
        step = self._todo.pop(0)
        assert words in step.command
        done = subprocess.run(
            ["bash", "-c", step.command],
            check=True,
            capture_output=True,
            text=True,
            env={**self._environment, "ADDRESS": address},
            timeout=WAIT_SECONDS_MAX,
        )
        assert done.stdout.splitlines()[: len(step.shown)] == step.shown

    def assert_done(self) -> None:
        """Fail if the guide has more commands."""
        assert self._todo == []


def address_of(user: User, disk: str, host: str) -> str:
    """Connect a host to a disk; return the address that the page shows."""
    user.go("/volumes")
    user.page.get_by_role("link", name=disk, exact=True).click()
    user.wait_live()
    user.press("Connect a host")
    user.page.get_by_label("Name of the host").fill(host)
    user.press("Connect", ".dialog")
    address = user.page.locator(".addresses code").first
    expect(address).to_contain_text("nbd")
    user.sees(host)
    return address.inner_text()


def open_group(user: User) -> None:
    """Go to the group by the overview."""
    user.go("/")
    user.page.get_by_role("link", name="shop", exact=True).click()
    user.wait_live()
    user.sees("shop", "h1")


def move(user: User, name: str, verb: str) -> None:
    """Do a move that asks for the group's name."""
    user.press(name)
    act = user.page.locator(".dialog").get_by_role("button", name=verb, exact=True)
    expect(act).to_be_disabled()
    user.page.get_by_label("To go on, type").fill("shop")
    expect(act).to_be_enabled()
    act.click()
    expect(user.page.locator(".dialog")).to_have_count(0)


def protect_a_disk(user: User) -> None:
    """Make a group with the guided form."""
    user.page.locator("#content").get_by_role("link", name="Protect disks").click()
    user.wait_live()
    user.page.get_by_label("Name", exact=True).fill("shop")
    user.press("Add a new disk")
    user.page.get_by_label("Name of the new disk").fill("db")
    user.page.get_by_label("Size, GiB").fill("1")
    user.picture("page-02-protect")
    user.press("Show the plan")
    user.sees("Make the disk db, 1 GiB, in az1.", ".dialog")
    user.picture("page-03-plan")
    user.press("Do it", ".dialog")
    user.sees("shop", "h1")
    user.sees("a failover to az2 loses nothing", ".advices")


def fail_over(user: User) -> None:
    """See that the site is lost, read what a failover would do, leave it, and do it then."""
    user.sees("Production is lost or fails", ".title")
    user.sees("Production is out of sight")
    user.picture("page-06-site-lost")
    user.press("Fail over")
    user.sees("az2 becomes the primary site", ".dialog")
    user.picture("page-07-fail-over")
    user.page.keyboard.press("Escape")
    expect(user.page.locator(".dialog")).to_have_count(0)
    user.sees("az1 · primary", ".direction")
    move(user, "Fail over", "Fail over")
    user.sees("Failed over, not protected", ".title")
    user.picture("page-08-failed-over")


def return_home(user: User) -> None:
    """Protect the group from its new site, and move it back."""
    user.go("/")
    expect(user.page.locator(".site").first).to_contain_text("Connected")
    user.picture("page-09-site-is-back")
    open_group(user)
    user.press("Synchronize")
    user.sees("What was written in az1, and nobody else acknowledged, is overwritten.", ".dialog .loss")
    synchronize = user.page.locator(".dialog").get_by_role("button", name="Synchronize", exact=True)
    expect(synchronize).to_be_disabled()
    user.page.get_by_label("To go on, type").fill("shop")
    expect(synchronize).to_be_enabled()
    user.page.keyboard.press("Escape")
    expect(user.page.locator(".dialog")).to_have_count(0)
    move(user, "Reprotect", "Reprotect")
    user.sees("In sync", ".title")
    user.sees("az1 · DR", ".direction")
    move(user, "Switch over", "Switch over")
    user.sees("az1 · primary", ".direction")
    user.sees("In sync", ".title")
    user.picture("page-10-returned", whole=True)


def test_a_disk_is_protected_its_site_lost_and_the_group_returned(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/")
    user.picture("page-01-log-in")
    user.log_in()
    user.sees("Nothing is protected yet.")
    protect_a_disk(user)
    terminal = Terminal(installation)
    address = address_of(user, "db", "db-server")
    user.sees("-blockdev", "pre")
    user.picture("page-04-connected")
    terminal.run_next("nbdcopy --flush", address)
    with open_client(address) as client:
        open_group(user)
        user.sees("In sync", ".title")
        user.sees("Greatest 0 B/s", ".charts")  # What is written from now on is in no first sample.
        for block in range(BLOCKS):
            client.write(PLACE + block * len(DATA), DATA)
        client.flush()
        user.sees(re.compile("Greatest [0-9.]+ [KM]iB/s"), ".charts")
        user.picture("page-05-in-sync", whole=True)
        try:
            terminal.run_next("rehearse lose az1")
            fail_over(user)
            twin = address_of(user, "db-dr", "other-server")
            terminal.run_next("head -c", twin)
            with open_client(twin) as survivor:
                assert survivor.read(PLACE, len(DATA)) == DATA, "an acknowledged write is lost"
                survivor.write(PLACE, LATER)
                survivor.flush()
            terminal.run_next("rehearse return az1")
        finally:
            return_site(installation.directory, "az1")
    terminal.assert_done()
    return_home(user)
    with open_client(address_of(user, "db", "db-server")) as client:
        assert client.read(PLACE, len(LATER)) == LATER
    user.go("/")
    user.wait_live()
    user.picture("page-11-overview")
    user.close()
