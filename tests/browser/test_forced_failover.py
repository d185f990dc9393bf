"""A failover that loses something: the name alone does not do it, and the accepted loss alone does not either."""

from __future__ import annotations

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
    user.close()
