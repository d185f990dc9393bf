"""Waiters: woken by a change, looking by themselves, bounded."""

from __future__ import annotations

import asyncio

from twinsite.control.wakeups import Wakeups


class Counter:
    """Something to look at, that counts the looks."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.looks = 0
        self.looked = asyncio.Event()

    async def look(self) -> str | None:
        """Return the value."""
        self.looks += 1
        self.looked.set()
        return self.value


async def test_what_is_there_already_is_returned_at_once() -> None:
    counter = Counter()
    counter.value = "here"
    assert await Wakeups(60).until(counter.look, 0) == "here"
    assert counter.looks == 1


async def test_a_change_wakes_every_waiter() -> None:
    wakeups, counters = Wakeups(60), [Counter(), Counter()]
    waiters = [asyncio.create_task(wakeups.until(counter.look, 60)) for counter in counters]
    for counter in counters:
        await counter.looked.wait()
        counter.looked.clear()
    await wakeups.notify()
    for counter in counters:
        await counter.looked.wait()
        counter.value = "there"
    await wakeups.notify()
    assert await asyncio.gather(*waiters) == ["there", "there"]


async def test_a_change_while_looking_is_not_missed() -> None:
    wakeups, counter = Wakeups(60), Counter()

    async def look() -> str | None:
        result = await counter.look()
        if counter.looks == 1:
            counter.value = "meanwhile"
            await wakeups.notify()
        return result

    async with asyncio.timeout(10):
        assert await wakeups.until(look, 60) == "meanwhile"


async def test_a_waiter_looks_by_itself() -> None:
    counter = Counter()
    waiter = asyncio.create_task(Wakeups(0.001).until(counter.look, 60))
    await counter.looked.wait()
    counter.value = "found"
    async with asyncio.timeout(10):
        assert await waiter == "found"


async def test_waiting_ends_with_the_time_and_with_the_process() -> None:
    wakeups, counter = Wakeups(60), Counter()
    assert await wakeups.until(counter.look, 0.001) is None
    waiter = asyncio.create_task(wakeups.until(counter.look, 60))
    await asyncio.sleep(0)
    await wakeups.close()
    assert await waiter is None
    assert await wakeups.until(counter.look, 60) is None


async def test_a_look_that_raises_ends_the_wait() -> None:
    async def look() -> None:
        raise LookupError

    try:
        await Wakeups(60).until(look, 60)
    except LookupError:
        return
    raise AssertionError("the error was lost")
