"""The readiness protocol, over its real socket."""

from __future__ import annotations

import asyncio
import os

import pytest

from twinsite.readiness import (
    ENVIRONMENT_VARIABLE,
    WATCHDOG_PID_VARIABLE,
    WATCHDOG_VARIABLE,
    ReadinessSocket,
    keep_watchdog,
    notify_ready,
)

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


async def test_a_watchdog_hears_signs_of_life_as_long_as_the_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = ReadinessSocket()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, listener.address)
    monkeypatch.setenv(WATCHDOG_VARIABLE, "3000")
    monkeypatch.setenv(WATCHDOG_PID_VARIABLE, str(os.getpid()))
    living = asyncio.create_task(keep_watchdog())
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        for _ in range(3):
            await listener.wait(b"WATCHDOG=1")
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    listener.close()


@pytest.mark.parametrize(("microseconds", "pid"), [("", ""), ("soon", "own"), ("3000", "1")])
async def test_a_watchdog_of_nobody_or_of_another_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str
) -> None:
    monkeypatch.setenv(WATCHDOG_VARIABLE, microseconds)
    monkeypatch.setenv(WATCHDOG_PID_VARIABLE, str(os.getpid()) if pid == "own" else pid)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await keep_watchdog()
