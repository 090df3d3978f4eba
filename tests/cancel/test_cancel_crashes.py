"""A worker that dies in the middle of a cancellation leaves it to the next, whatever it had done of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.cancel.conftest import Desk
    from tests.engine.conftest import Fleet, Member

FULL = RegionSettings(capacity=0)
SLOW = RegionSettings(latency_ms=(400, 400))


def hang(monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, when: str) -> asyncio.Event:
    """Let a step of this worker never come back, before or after it is done; the event says that it was reached."""
    reached, original = asyncio.Event(), getattr(owner, step)

    async def hanging(*args: Any, **options: Any) -> Any:
        if when == "after":
            await original(*args, **options)
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(owner, step, hanging)
    return reached


async def dies_at(fleet: Fleet, desk: Desk, member: Member, reached: asyncio.Event, request_id: str) -> None:
    await desk.cancel(request_id)
    async with asyncio.timeout(5):
        await reached.wait()
    assert not await desk.settled()
    await member.cut()


@pytest.mark.parametrize(
    ("step", "when"),
    [("seize", "before"), ("seize", "after"), ("commit", "after"), ("settle", "before")],
)
async def test_a_waiting_request_is_cancelled_by_the_next_worker(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    await fleet.begin({"europe": FULL})
    dying = await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() >= 1)
    owner = dying.parts.broker if step == "commit" else dying.parts.aftermath
    await dies_at(fleet, desk, dying, hang(monkeypatch, owner, step, when), "m-1")
    await fleet.worker(rates={"europe": 1000})
    await desk.all_done()
    assert await desk.states_told("m-1") == ["cancelled"]
    assert (await fleet.answer("m-1"))["state"] == "cancelled"


@pytest.mark.parametrize(("step", "when"), [("seize", "after"), ("commit", "after"), ("settle", "before")])
async def test_a_request_whose_call_is_out_leaves_no_server(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    await fleet.begin({"europe": SLOW})
    dying = await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() == 1)
    owner = dying.parts.broker if step == "commit" else dying.parts.aftermath
    await dies_at(fleet, desk, dying, hang(monkeypatch, owner, step, when), "m-1")
    await fleet.worker(rates={"europe": 1000})
    await wait_until(lambda: fleet.simulator.ledger.sessions)
    await desk.until("m-1", "cancelled", "released")
    await desk.all_done()
    assert await desk.states_told("m-1") in (["cancelled"], ["allocated", "released"])


@pytest.mark.parametrize(
    ("step", "when"), [("seize", "after"), ("condemn", "before"), ("condemn", "after"), ("settle", "before")]
)
async def test_an_allocated_one_is_released_once_by_the_next_worker(
    fleet: Fleet, desk: Desk, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    await fleet.begin()
    dying = await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await dies_at(fleet, desk, dying, hang(monkeypatch, dying.parts.aftermath, step, when), "m-1")
    await fleet.worker()
    await desk.until("m-1", "released")
    await desk.all_done()
    assert await desk.states_told("m-1") == ["allocated", "released"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_session_that_was_stopped_and_not_yet_told_released_is_told_once(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch, *, when: str
) -> None:
    await fleet.begin()
    dying = await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    reached = hang(monkeypatch, dying.parts.aftermath, "release", when)
    await desk.cancel("m-1")
    async with asyncio.timeout(5):
        await reached.wait()
    assert not fleet.alive()
    await dying.cut()
    await fleet.worker()
    await desk.until("m-1", "released")
    await desk.all_done()
    assert await desk.states_told("m-1") == ["allocated", "released"]

    async def none_condemned() -> bool:
        return not await fleet.connection.execute("ZCARD", fleet.keys.condemned)

    await wait_until(none_condemned)


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("find", "before"),
        ("find", "after"),
        ("condemn", "before"),
        ("condemn", "after"),
        ("forestall", "before"),
        ("forestall", "after"),
        ("settle", "before"),
    ],
)
async def test_the_session_of_an_id_that_redis_has_lost_is_stopped_all_the_same(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    await fleet.begin()
    dying = await fleet.worker()
    kept, _ = await fleet.ended(*await fleet.send_many(2))
    await fleet.connection.execute("FLUSHALL")
    owner = dying.parts.providers["gameye"] if step == "find" else dying.parts.aftermath
    await dies_at(fleet, desk, dying, hang(monkeypatch, owner, step, when), "m-1")
    await fleet.worker()
    await desk.until("m-1", "cancelled")
    await wait_until(desk.settled)
    await wait_until(lambda: [session.id for session in fleet.alive()] == [kept["session_id"]])
    assert await desk.states_told("m-1") == ["cancelled"]
