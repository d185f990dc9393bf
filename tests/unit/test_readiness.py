"""The readiness protocol, over its real socket."""

from __future__ import annotations

import asyncio

import pytest

from twinsite.readiness import ENVIRONMENT_VARIABLE, ReadinessSocket, notify_ready

WAIT_SECONDS_MAX = 20.0


async def test_ready_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = ReadinessSocket()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, listener.address)
    waiting = asyncio.create_task(listener.wait())
    notify_ready()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await waiting
    listener.close()
    listener.close()


@pytest.mark.parametrize("address", ["", "@nobody-listens-here", "/nowhere/at/all"])
def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, address)
    notify_ready()


async def test_each_listener_has_an_address_of_its_own() -> None:
    listeners = [ReadinessSocket() for _ in range(3)]
    assert len({listener.address for listener in listeners}) == 3
    for listener in listeners:
        listener.close()
