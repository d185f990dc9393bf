"""A failover that loses something: the name alone does not do it, and the accepted loss alone does not either."""

from __future__ import annotations

import shutil
import subprocess
import sys

from playwright.sync_api import Browser, expect

from tests.support.api_group import Group
from tests.support.browser import NARROW, User
from tests.support.installation import Installation, open_client

BLOCK_BYTES = 65536
BEFORE, AFTER = b"b" * BLOCK_BYTES, b"a" * BLOCK_BYTES


def test_a_forced_failover_needs_the_name_and_the_accepted_loss(browser: Browser, installation: Installation) -> None:
    group = Group(installation, 1, "orders")
    (uri,) = group.connect("az1")
    with open_client(uri) as client:
        client.write(0, BEFORE)
        client.flush()
        group.synchronize()
        group.act("stop")
        client.write(0, AFTER)
        client.flush()
    user = User(browser, installation, NARROW)
    user.go(f"/groups/{group.id}")
    user.log_in()
    user.sees("Paused", ".title")
    user.sees("lacks 64.0 KiB", ".advices")
    user.press("Fail over")
    act = user.page.locator(".dialog").get_by_role("button", name="Fail over", exact=True)
    name, loss = user.page.get_by_label("To go on, type"), user.page.get_by_label("I accept what is lost")
    user.sees("at most 65536 bytes", ".dialog .loss")
    expect(act).to_be_disabled()
    name.fill("orders")
    expect(act).to_be_disabled()
    loss.check()
    expect(act).to_be_enabled()
    name.fill("order")
    expect(act).to_be_disabled()
    name.fill("orders")
    loss.uncheck()
    expect(act).to_be_disabled()
    loss.check()
    with open_client(uri) as client:
        client.write(BLOCK_BYTES, AFTER)
        client.flush()
    # The plan was read anew: it tells the new loss, and has taken nothing of what was typed.
    user.sees("at most 131072 bytes", ".dialog .loss")
    expect(name).to_have_value("orders")
    expect(loss).to_be_checked()
    assert group.show()["status"] == "available"
    act.click()
    expect(user.page.locator(".dialog")).to_have_count(0)
    user.sees("Failed over, not protected", ".title")
    shown = group.wait_shown("a served DR side", status="failovered")
    assert shown["priority_station"] == "az2"
    user.sees("131072 bytes", ".events")
    (uri,) = group.connect("az2")
    with open_client(uri) as client:
        assert client.read(0, BLOCK_BYTES) == BEFORE, "what was common to both"
    put_back_what_only_az1_had(user, group)
    user.close()


def put_back_what_only_az1_had(user: User, group: Group) -> None:
    """Protect the group again; the page says where the lost writes are kept, and its command finds them."""
    user.press("Reprotect")
    user.page.get_by_label("To go on, type").fill("orders")
    user.press("Reprotect", ".dialog")
    user.sees("In sync", ".title")
    user.sees("What one site alone had")
    user.sees("az1, overwritten from", ".kept-logs")
    put_back = user.page.locator(".kept-logs pre").inner_text().splitlines()[0].split()
    assert put_back[:3] == ["twinsite", "kept", "put-back"]
    assert put_back[-1] == "COPY-OF-THE-DISK"
    copy = group.installation.directory / "copy.raw"
    shutil.copyfile(group.pool_file(group.production[0]), copy)
    subprocess.run([sys.executable, "-m", "twinsite.cli.main", *put_back[1:-1], str(copy)], check=True)
    with copy.open("rb") as disk:
        assert disk.read(2 * BLOCK_BYTES) == 2 * AFTER, "what was accepted to be lost"
