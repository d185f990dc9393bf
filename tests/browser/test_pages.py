"""Each page: readable at both widths and in both colours, by people who see, hear or only type; live; and safe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.support.api_group import Group
from tests.support.browser import NARROW, WIDE, User, installation_with_page
from tests.support.installation import Installation, open_client
from twinsite.embedded.rehearsal import lose_site

HOSTILE = "<img src=x onerror=alert(1)>`${7*7}</script><script>alert(2)</script>{{ 7*7 }}"
GROUPS = "/os-vendor-replication-consistency-groups"
PASSWORD = "correct horse"
BLOCK_BYTES = 65536
TABS_MAX = 60
GROUP_DIALOGS = (
    *("Synchronize", "Pause", "Switch over", "Fail over", "Reprotect"),
    *("Rename", "Change pairs", "Grow disks", "Delete group"),
)
VOLUME_DIALOGS = ("Connect a host", "Edit", "Grow", "Disconnect", "Delete")
FITS = "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.dialog'))"


@pytest.fixture(scope="module")
def group(installation: Installation) -> Group:
    """A group that the tests look at and do not change."""
    return Group(installation, 1, "accounts")


@pytest.fixture(scope="module")
def troubled(installation: Installation) -> Group:
    """A paused group whose DR site lacks a write."""
    made = Group(installation, 1, "paused")
    made.synchronize()
    made.act("stop")
    (uri,) = made.connect("az1")
    write(uri, 1)
    made.wait_shown("a paused group", replication_status="active-stopped")
    return made


def write(uri: str, block: int) -> None:
    """Write to a block of a disk, and flush."""
    with open_client(uri) as client:
        client.write(block * BLOCK_BYTES, b"w" * BLOCK_BYTES)
        client.flush()


class Inspector:
    """Looks at what is shown, as a person who sees it, and one who hears it."""

    def __init__(self, user: User, scheme: str) -> None:
        self._user = user
        self._shade = "rgb(16, 22, 29)" if scheme == "dark" else "rgb(244, 246, 249)"

    def check(self, what: str) -> None:
        """Fail when it does not fit, has the wrong colours, or axe finds something."""
        expect(self._user.page.locator("body")).to_have_css("background-color", self._shade)
        assert not self._user.is_too_wide(), f"{what} must be scrolled sideways"
        found = Axe().run(self._user.page)
        assert found.violations_count == 0, f"{what}: {found.generate_report()}"

    def check_dialogs(self, path: str, buttons: Sequence[str]) -> None:
        """Open each dialog of a page, look at it and leave it."""
        self._user.go(path)
        self._user.wait_live()
        for name in buttons:
            self._user.press(name)
            expect(self._user.page.get_by_role("dialog")).to_be_visible()
            assert self._user.page.evaluate(FITS), f"the dialog {name} of {path} must be scrolled sideways"
            self.check(f"the dialog {name} of {path}")
            self._user.page.keyboard.press("Escape")
            expect(self._user.page.locator(".dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_and_can_be_used_by_everybody(
    browser: Browser,
    installation: Installation,
    group: Group,
    troubled: Group,
    size: tuple[int, int],
    scheme: Literal["light", "dark"],
) -> None:
    user = User(browser, installation, size, scheme)
    inspector = Inspector(user, scheme)
    disk = f"/volumes/{troubled.production[0]}"
    user.go("/")
    inspector.check("the log-in form")
    user.log_in()
    user.go("/project")
    inspector.check("the choice of a project")
    for path in (
        "/",
        "/protect",
        "/volumes",
        "/pairs",
        "/sites",
        disk,
        f"/groups/{troubled.id}",
        f"/groups/{group.id}",
    ):
        user.go(path)
        user.wait_live()
        inspector.check(path)
    if (size, scheme) != (WIDE, "light"):
        user.picture(f"page-{'wide' if size == WIDE else 'narrow'}-{scheme}")
    inspector.check_dialogs(f"/groups/{troubled.id}", GROUP_DIALOGS)
    inspector.check_dialogs(disk, VOLUME_DIALOGS)
    inspector.check_dialogs("/volumes", ("Create a volume",))
    inspector.check_dialogs("/pairs", ("Create a pair",))
    inspector.check_dialogs("/sites", ("Give up az2",))
    inspector.check_dialogs("/webhooks", ("Create a webhook",))
    user.close()


def tab_to(user: User, words: str) -> None:
    """Go on with the tabulator until the focus is on what has these words."""
    for _ in range(TABS_MAX):
        user.page.keyboard.press("Tab")
        if user.page.evaluate("document.activeElement.textContent") == words:
            return
    raise AssertionError(f"{TABS_MAX} times the tabulator, and {words!r} is not reached")


def test_a_group_is_found_and_paused_with_the_keyboard_alone(browser: Browser, installation: Installation) -> None:
    group = Group(installation, 1, "by-keys")
    group.synchronize()
    user = User(browser, installation)
    keyboard = user.page.keyboard
    user.go("/")
    secret = (installation.directory / "secrets/admin-password").read_text().strip()
    expect(user.page.get_by_label("User", exact=True)).to_be_focused()
    keyboard.type("admin")
    keyboard.press("Tab")
    keyboard.type(secret)
    keyboard.press("Enter")
    user.wait_live()
    keyboard.press("Tab")
    expect(user.page.locator(".skip")).to_be_focused()
    keyboard.press("Enter")
    expect(user.page).to_have_url(re.compile("#content$"))
    tab_to(user, "by-keys")
    outline = user.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "one sees where one is"
    keyboard.press("Enter")
    user.sees("by-keys", "h1")
    user.wait_live()
    tab_to(user, "Fail over")
    keyboard.press("Enter")
    user.sees("Fail over: by-keys", ".dialog")
    for _ in range(12):
        keyboard.press("Tab")
        # Past the last button it is the browser's turn; nothing else of the page is reached.
        script = "document.activeElement === document.body || document.activeElement.closest('.q-dialog') !== null"
        assert user.page.evaluate(script), "the focus leaves the dialog"
    keyboard.press("Escape")
    expect(user.page.locator(".dialog")).to_have_count(0)
    user.sees("In sync", ".title")
    tab_to(user, "Pause")
    keyboard.press("Enter")
    user.sees("Pause: by-keys", ".dialog")
    keyboard.press("Tab")
    expect(user.page.get_by_label("To go on, type")).to_be_focused()
    keyboard.type("by-keys")
    tab_to(user, "Pause replication")
    keyboard.press("Enter")
    expect(user.page.locator(".dialog")).to_have_count(0)
    user.sees("Paused", ".title")
    group.wait_shown("a paused group", replication_status="active-stopped")
    user.close()


def test_what_changes_is_seen_without_a_reload(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/")
    user.log_in()
    group_id = Group(installation, 1, "before").id
    user.sees("before", ".groups")
    user.page.evaluate("window.stays = true")
    body = {"replication_consistency_group": {"name": "after"}}
    installation.call("PUT", f"{GROUPS}/{group_id}", body, version="v2")
    user.sees("after", ".groups")
    assert user.page.evaluate("window.stays"), "the page was loaded anew"
    user.close()


def test_what_users_write_is_text_and_never_markup(browser: Browser, installation: Installation) -> None:
    group_id = Group(installation, 1, HOSTILE).id
    user = User(browser, installation)
    user.page.on("dialog", lambda dialog: user.troubles.append(dialog.message))
    user.go("/")
    user.log_in()
    user.sees(HOSTILE, ".groups")
    user.go(f"/groups/{group_id}")
    user.wait_live()
    assert user.page.locator("h1").inner_text() == HOSTILE
    user.press("Pause")
    user.sees(HOSTILE, ".dialog")
    user.page.keyboard.press("Escape")
    user.go("/pairs")
    user.sees(HOSTILE)
    assert user.page.locator("img[src=x]").count() == 0
    user.close()


def make_tenant(installation: Installation) -> None:
    """Make the user alice, member of a project of her own."""
    headers = {"X-Auth-Token": installation.token}
    with httpx.Client(base_url=f"{installation.url}/identity/v3", headers=headers, trust_env=False) as http:
        user = http.post("/users", json={"user": {"name": "alice", "password": PASSWORD}}).json()["user"]
        project = http.post("/projects", json={"project": {"name": "lab"}}).json()["project"]
        (role,) = http.get("/roles?name=member").json()["roles"]
        path = f"/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
        assert http.put(path).status_code == 204


def test_a_tenant_sees_their_own(browser: Browser, installation: Installation, group: Group) -> None:
    make_tenant(installation)
    user = User(browser, installation)
    user.go("/")
    user.log_in("alice", PASSWORD)
    user.sees("Nothing is protected yet.")
    user.sees("az1", ".sites.left")
    for meter in user.page.locator("meter").all():
        expect(meter).to_be_hidden()
    user.go("/volumes")
    user.sees("There are no volumes yet.")
    user.go("/sites")
    user.sees("Only administrators")
    expect(user.page.locator("table")).to_be_hidden()
    user.go(f"/groups/{group.id}")
    user.sees("There is no such group", "h1")
    expect(user.page.locator("#content")).not_to_contain_text("accounts")
    user.close()


def test_volumes_and_pairs_are_made_and_ended_by_forms(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/volumes")
    user.log_in()
    for name, site in (("wal", "az1"), ("wal-dr", "az2")):
        user.press("Create a volume")
        user.page.get_by_label("Name", exact=True).fill(name)
        user.page.get_by_label("Size, GiB").fill("1")
        user.page.get_by_label("Site").select_option(site)
        user.press("Create volume", ".dialog")
        expect(user.page.locator("tr", has_text=re.compile(f"^{name}az"))).to_contain_text("available")
    user.sees(re.compile(r"Volumes\d+ of [\d,]+"), "section")
    user.go("/pairs")
    user.wait_live()
    user.press("Create a pair")
    user.page.get_by_label("Name", exact=True).fill("wal-pair")
    wal = user.page.get_by_label("Production disk").locator("option", has_text="wal · az1").get_attribute("value")
    user.page.get_by_label("Production disk").select_option(wal)
    expect(user.page.get_by_label("DR disk").locator("option", has_text="wal-dr")).to_have_count(1)
    user.press("Create pair", ".dialog")
    user.sees("wal-pair", "tbody")
    row = user.page.locator("tr", has_text="wal-pair")
    expect(row).to_contain_text("available")
    row.get_by_role("button", name="Take apart").click()
    apart = user.page.locator(".dialog").get_by_role("button", name="Take apart")
    user.page.get_by_label("To go on, type").fill("wal-pai")
    expect(apart).to_be_disabled()
    user.page.get_by_label("To go on, type").fill("wal-pair")
    apart.click()
    expect(row).to_have_count(0)
    user.close()


def test_a_volume_is_written_on_grown_and_attached(browser: Browser, installation: Installation) -> None:
    volume_id = installation.create_volume("az1")
    user = User(browser, installation)
    user.go(f"/volumes/{volume_id}")
    user.log_in()
    user.press("Edit")
    user.page.get_by_label("Name", exact=True).fill("files")
    user.page.get_by_label("Description").fill("Of the accountants")
    user.page.get_by_label("Tags").fill("owner=finance\ntier")
    user.press("Save", ".dialog")
    user.sees("'tier': write KEY=VALUE", ".dialog")
    user.page.get_by_label("Tags").fill("owner=finance\ntier=1\n")
    user.press("Save", ".dialog")
    user.sees("files", "h1")
    user.sees("Of the accountants")
    user.sees("owner=finance, tier=1", ".facts")
    user.press("Edit")
    user.page.get_by_label("Tags").fill("tier=2")
    user.press("Save", ".dialog")
    user.sees("Tagstier=2", ".facts")
    user.press("Grow")
    user.page.get_by_label("Size, GiB").fill("2")
    user.press("Grow volume", ".dialog")
    user.sees("2 GiB", ".facts")
    assert installation.volume(volume_id)["size"] == 2
    expect(user.page.get_by_label("With")).to_be_hidden()
    user.press("Connect a host")
    user.page.get_by_label("Name of the host").fill("db-server")
    user.press("Connect", ".dialog")
    uri = user.page.locator(".addresses code").first
    expect(uri).to_contain_text("nbd")
    for tool, words in (("qemu", "-blockdev"), ("libvirt", "<disk type='network'"), ("nbdcopy", uri.inner_text())):
        user.page.get_by_label("With").select_option(tool)
        user.sees(words, "pre")
    user.close()


def test_a_disk_of_a_pair_leads_to_who_grows_it(browser: Browser, installation: Installation, group: Group) -> None:
    user = User(browser, installation)
    user.go(f"/volumes/{group.production[0]}")
    user.log_in()
    user.press("Grow")
    user.page.get_by_role("link", name="Grow them on the page of the group").click()
    user.sees("accounts", "h1")
    user.close()


def test_an_administrator_gives_a_site_up_and_uses_it_again(browser: Browser) -> None:
    with installation_with_page() as installation:
        lose_site(installation.directory, "az2")
        user = User(browser, installation)
        user.go("/")
        user.log_in()
        user.page.get_by_role("link", name="Manage the sites").click()
        row = user.page.locator("tr", has_text="az2")
        expect(row).to_contain_text("Not heard")
        user.press("Give up az2")
        give_up = user.page.locator(".dialog").get_by_role("button", name="Give up", exact=True)
        expect(give_up).to_be_disabled()
        user.page.get_by_label("To go on, type").fill("az2")
        give_up.click()
        expect(row).to_contain_text("Given up since")
        user.press("Use az2 again")
        user.press("Use again", ".dialog")
        expect(row).to_contain_text("Not heard")
        user.close()


def test_a_webhook_is_made_tried_and_ended(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/")
    user.log_in()
    user.page.get_by_role("link", name="Webhooks").click()
    user.sees("There are no webhooks yet.")
    user.press("Create a webhook")
    user.page.get_by_label("Name", exact=True).fill("pager")
    user.page.get_by_label("Address").fill("http://localhost:9/")
    user.page.get_by_label("Kinds of events").fill("of_none")
    user.press("Create webhook", ".dialog")
    user.sees("There is no kind of event 'of_none'", ".dialog")
    user.page.get_by_label("Kinds of events").fill("hold_began, site_lost")
    user.press("Create webhook", ".dialog")
    user.sees("hold_began, site_lost", "tbody >> nth=0")
    user.press("Try pager")
    user.sees("The test did not arrive", ".messages")
    user.sees("What was sent to pager")
    sent = user.page.locator("section tbody tr")
    expect(sent).to_contain_text("given up")
    expect(sent).to_contain_text("not a public address")
    user.press("Delete pager")
    user.press("Delete webhook", ".dialog")
    user.sees("There are no webhooks yet.")
    user.close()


def test_a_group_is_changed_paused_and_ended_by_forms(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/")
    user.log_in()
    group_id = Group(installation, 1, "ledger").id
    user.go(f"/groups/{group_id}")
    user.wait_live()
    user.press("Synchronize")
    user.press("Synchronize", ".dialog")
    user.sees("In sync", ".title")
    user.press("Grow disks")
    user.page.get_by_label(re.compile("ledger, GiB")).fill("2")
    user.press("Grow disks", ".dialog")
    user.sees("2 GiB", "tbody")
    user.press("Rename")
    user.page.get_by_label("New name").fill("ledger-2")
    user.press("Rename", ".dialog")
    user.sees("ledger-2", "h1")
    user.press("Pause")
    user.page.get_by_label("To go on, type").fill("ledger-2")
    user.press("Pause replication", ".dialog")
    user.sees("Paused", ".title")
    user.press("Delete group")
    user.page.get_by_label("To go on, type").fill("ledger-2")
    user.press("Delete group", ".dialog")
    user.sees("Overview", "h1")
    expect(user.page.locator(".groups")).not_to_contain_text("ledger-2")
    user.close()


def test_a_page_whose_token_is_revoked_asks_to_log_in(browser: Browser, installation: Installation) -> None:
    user = User(browser, installation)
    user.go("/volumes")
    user.log_in()
    other = user.page.context.new_page()
    other.goto(f"{installation.url}/ui/pairs")
    other.get_by_role("button", name="Log out").click()
    expect(user.page.get_by_role("button", name="Log in")).to_be_visible()
    user.close()


def test_the_controller_ends_at_once_and_quietly_though_pages_are_open(browser: Browser) -> None:
    with installation_with_page() as installation:
        user = User(browser, installation)
        user.go("/volumes")
        user.log_in()
        password = (installation.directory / "secrets/admin-password").read_text().strip()
        log = installation.directory / "logs/controller.log"
        token_cookie = user.page.context.cookies()[0].get("value", "")
        assert installation.stop() == (0, "", "")
        text = log.read_text()
        assert "Traceback" not in text
        assert "error" not in re.sub(r"uvicorn\.error", "", text), "no line of the log is an error"
        for secret in (password, token_cookie):
            assert secret
            assert secret not in text
        expect(user.page.locator("#popup")).to_be_visible()
        installation.start("--port", str(urlsplit(installation.url).port))
        user.wait_live()
        user.sees("There are no volumes yet.")
        user.troubles.clear()  # The browser notes that the connection was refused for a while.
        user.close()
