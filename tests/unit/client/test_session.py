"""When a request is sent again: after a new log-in, and where that is harmless; never otherwise, never for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.client.conftest import Driver, Outcome, refusal, reply
from twinsite.client import ApiRefused, ApiUnreachable, Unauthorized, Unavailable
from twinsite.client.groups import extend_group, failover_group, reprotect_group, reverse_group, stop_group, sync_group
from twinsite.client.pairs import create_pair, delete_pair
from twinsite.client.session import RETRY_SECONDS, Session
from twinsite.client.steps import Plan
from twinsite.client.volumes import connect_volume, create_volume, delete_volume, disconnect_volume, list_zones

NEVER_SENT = ApiUnreachable("refused")
UNANSWERED = ApiUnreachable("late", was_sent=True)
BAD_GATEWAY = reply(None, 502)
ZONES = reply({"availabilityZoneInfo": []})


def fail_over(session: Session) -> Plan[None]:
    return failover_group(session, "g")


REPEATABLE: dict[str, Callable[[Session], Plan[None]]] = {
    "sync": lambda session: sync_group(session, "g"),
    "stop": lambda session: stop_group(session, "g"),
    "extend": lambda session: extend_group(session, "g", {"p": 2}),
    "disconnect": lambda session: disconnect_volume(session, "v", "h"),
}
ONCE: dict[str, Callable[[Session], Plan[object]]] = {
    "failover": fail_over,
    "forced stop": lambda session: stop_group(session, "g", force=True),
    "reverse": lambda session: reverse_group(session, "g"),
    "reprotect": lambda session: reprotect_group(session, "g"),
    "delete volume": lambda session: delete_volume(session, "v"),
    "delete pair": lambda session: delete_pair(session, "p"),
    "create volume": lambda session: create_volume(session, size_gib=1, zone="az1"),
    "create pair": lambda session: create_pair(session, volume_ids=["a", "b"], priority_station="az1"),
}


@pytest.mark.parametrize("trouble", [NEVER_SENT, UNANSWERED, BAD_GATEWAY])
def test_reading_is_repeated(trouble: Outcome) -> None:
    driver = Driver(trouble, trouble, ZONES)
    assert driver.run(list_zones(driver.session)) == []
    assert len({send.url for send in driver.sent}) == 1
    assert tuple(driver.pauses) == RETRY_SECONDS


@pytest.mark.parametrize("trouble", [NEVER_SENT, UNANSWERED, BAD_GATEWAY])
def test_repetitions_are_bounded(trouble: Outcome) -> None:
    driver = Driver(*[trouble] * 10)
    with pytest.raises((ApiUnreachable, ApiRefused)):
        driver.run(list_zones(driver.session))
    assert len(driver.sent) == len(RETRY_SECONDS) + 1


@pytest.mark.parametrize("name", REPEATABLE)
def test_what_is_safe_to_repeat_is_repeated(name: str) -> None:
    driver = Driver(UNANSWERED, BAD_GATEWAY, reply())
    driver.run(REPEATABLE[name](driver.session))
    assert [send.body for send in driver.sent] == [driver.sent[0].body] * 3


@pytest.mark.parametrize("trouble", [UNANSWERED, BAD_GATEWAY])
@pytest.mark.parametrize("name", ONCE)
def test_what_may_have_been_done_is_not_repeated(name: str, trouble: Outcome) -> None:
    driver = Driver(trouble, reply())
    with pytest.raises((ApiUnreachable, ApiRefused)):
        driver.run(ONCE[name](driver.session))
    assert len(driver.sent) == 1


def test_what_never_arrived_is_sent_again_whatever_it_is() -> None:
    driver = Driver(NEVER_SENT, reply())
    driver.run(fail_over(driver.session))
    assert len(driver.sent) == 2


def test_a_refusal_of_the_api_itself_stands() -> None:
    driver = Driver(refusal(503, "the node of az2 is not connected", "EVS.5503"))
    with pytest.raises(Unavailable, match="az2 is not connected"):
        driver.run(connect_volume(driver.session, "v", "h"))
    assert driver.pauses == []


def test_a_token_that_is_refused_is_replaced_once() -> None:
    driver = Driver(refusal(401), ZONES)
    driver.run(list_zones(driver.session))
    assert [send.token for send in driver.sent] == ["token-1", "token-2"]
    driver = Driver(refusal(401), refusal(401, "still no"), ZONES)
    with pytest.raises(Unauthorized, match="still no"):
        driver.run(list_zones(driver.session))
    assert len(driver.sent) == 2
