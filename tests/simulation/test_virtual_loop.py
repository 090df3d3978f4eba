"""The loop itself: time that jumps, processes that stand still or end at any await."""

from __future__ import annotations

import asyncio
import random

from tests.simulation.virtual_loop import VirtualLoop, context_of


def _loop() -> VirtualLoop:
    return VirtualLoop(random.Random(1))


def test_an_hour_passes_in_an_instant() -> None:
    loop = _loop()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == 3600
    loop.close()


def test_callbacks_of_one_process_run_in_the_order_they_were_asked_for() -> None:
    loop, ran = _loop(), list[int]()
    for number in range(100):
        loop.call_soon(ran.append, number)
    loop.run_until_complete(asyncio.sleep(1))
    assert ran == sorted(ran)
    assert len(ran) == 100
    loop.close()


def test_a_paused_process_stands_still_and_goes_on_late() -> None:
    loop, woke_at = _loop(), list[float]()

    async def sleeper() -> None:
        await asyncio.sleep(1)
        woke_at.append(loop.time())

    async def world() -> None:
        task = loop.create_task(sleeper(), context=context_of("w0"))
        loop.pause("w0")
        loop.call_later(5, loop.resume, "w0")
        await task

    loop.run_until_complete(world())
    assert woke_at == [6.0]  # the sleeper had not begun when it was paused
    loop.close()


def test_a_killed_process_does_nothing_more_until_it_is_buried() -> None:
    loop, said = _loop(), list[str]()

    async def victim() -> None:
        try:
            await asyncio.sleep(1)
            said.append("lived on")
        finally:
            said.append("cleaned up")

    async def world() -> None:
        victim_task = loop.create_task(victim(), context=context_of("w0"))
        loop.after_steps("w0", 1, lambda: loop.kill("w0"))
        await asyncio.sleep(10)
        assert not victim_task.done()

    loop.run_until_complete(world())
    assert said == []
    loop.bury(["w0"])
    assert said == ["cleaned up"]
    loop.close()
