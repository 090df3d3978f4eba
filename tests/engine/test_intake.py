"""The reading of the streams: the next batch is read while the last is reserved, none that there is no room for.

On a loop whose clock is moved by hand: a sleep takes no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from allocator.broker.broker import BrokerUnavailable, Entry
from allocator.contract.request import Priority
from allocator.engine import intake as intake_module
from allocator.engine.insist import Insistence
from allocator.engine.intake import STILL_SECONDS, TAKE_MAX, Intake
from allocator.engine.observer import Crashed, Event

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

ROOM = TAKE_MAX + 10


class Streams:
    """A backlog of so many entries, read by an intake with room for `ROOM`; `reserve` is what the test makes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, backlog: int) -> None:
        self.left = backlog
        self.reads: list[tuple[str, int]] = []
        """How each was read, and how many came."""
        self.firsts: list[Priority] = []
        """Which priority each read by priority began with."""
        self.reserved: list[int] = []
        self.events: list[Event] = []
        self.draining = asyncio.Event()
        self.reserve: Callable[[int], Awaitable[object]] = lambda _count: asyncio.sleep(0)
        chance = random.Random(1)
        self.insist = Insistence(self.events.append, chance)
        self.parts: Any = SimpleNamespace(
            loop=asyncio.get_running_loop(),
            broker=self,
            insist=self.insist,
            chance=chance,
            observe=self.events.append,
            paused=False,
        )
        self.intake = Intake(cast(Any, self.parts), room=self.room, begin=lambda *_: None, draining=self.draining)

        async def take_up(entries: Sequence[Entry], _parts: Any, _begin: Any) -> None:
            await self.reserve(len(entries))
            self.reserved.append(len(entries))

        monkeypatch.setattr(intake_module, "take_up", take_up)

    def room(self) -> int:
        return ROOM - self.intake.coming

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        self.firsts.append(order[0])
        return await self._read("take", count)

    async def wait(self, count: int) -> list[Entry]:
        return await self._read("wait", count)

    async def _read(self, how: str, count: int) -> list[Entry]:
        await asyncio.sleep(0.001)
        taken = min(count, self.left)
        self.left -= taken
        self.reads.append((how, taken))
        return [Entry(Priority.NORMAL, f"{number}-0", None) for number in range(taken)]

    @contextlib.asynccontextmanager
    async def read(self, seconds: float = 1.0) -> AsyncIterator[None]:
        """Read for so long before what is done inside, and drain after it."""
        reading = asyncio.ensure_future(self.intake.run())
        await asyncio.sleep(seconds)
        yield
        self.draining.set()
        self.intake.room_changed.set()
        await reading


def test_the_next_are_read_while_the_last_are_reserved_and_no_more_than_there_is_room_for(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams, reply = Streams(monkeypatch, backlog=1000), asyncio.Event()
        streams.reserve = lambda _count: reply.wait()
        async with streams.read():
            assert [count for _, count in streams.reads] == [TAKE_MAX, ROOM - TAKE_MAX]
            assert (streams.intake.coming, streams.reserved) == (ROOM, [])
            reply.set()
            await asyncio.sleep(1)
            assert streams.reserved[:2] == [TAKE_MAX, ROOM - TAKE_MAX], "in the order in which they were read"
            assert sum(streams.reserved) == 1000

    run_virtually(story)


def test_who_comes_where_nothing_has_gathered_is_read_with_those_who_come_meanwhile(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams, reply = Streams(monkeypatch, backlog=3), asyncio.Event()
        streams.reserve = lambda _count: reply.wait()
        async with streams.read():
            streams.left += 5
            await asyncio.sleep(1)
            assert [count for _, count in streams.reads if count] == [3]
            reply.set()
            await asyncio.sleep(1)
            assert streams.reserved == [3, 5]

    run_virtually(story)


@pytest.mark.parametrize(("come", "then"), [(TAKE_MAX // 3 - 1, "wait"), (TAKE_MAX // 3, "take")])
def test_the_streams_are_read_by_priority_once_one_may_have_given_its_share(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch, come: int, then: str
) -> None:
    async def story() -> None:
        streams = Streams(monkeypatch, backlog=0)
        async with streams.read():
            streams.left = come
            await asyncio.sleep(1)
            at = streams.reads.index(("wait", come))
            assert streams.reads[at + 1] == (then, 0)

    run_virtually(story)


def test_one_read_in_ten_goes_to_the_lowest_first_however_often_the_intake_waits_for_room(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams = Streams(monkeypatch, backlog=10_000)
        rooms = itertools.cycle([1, 0])  # full after each read, as a worker is whose calls come back one by one
        monkeypatch.setattr(streams.intake, "_room", lambda: next(rooms))
        async with streams.read(0.5):
            for _ in range(200):
                streams.intake.room_changed.set()
                await asyncio.sleep(0.01)
        lowest_first = [number for number, first in enumerate(streams.firsts) if first is Priority.LOW]
        assert len(streams.firsts) > 100
        assert {later - sooner for sooner, later in itertools.pairwise(lowest_first)} == {10}

    run_virtually(story)


def test_a_batch_that_meets_a_fault_costs_the_next_one_nothing(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams = Streams(monkeypatch, backlog=3 * TAKE_MAX)
        faults = [ValueError("a fault of ours")]

        async def reserve(_count: int) -> None:
            await asyncio.sleep(0.01)
            if faults:
                raise faults.pop()

        streams.reserve = reserve
        async with streams.read(5):
            assert sum(streams.reserved) == 2 * TAKE_MAX
            assert [type(event) for event in streams.events] == [Crashed]
            assert streams.intake.coming == 0

    run_virtually(story)


def test_what_was_read_before_a_pause_waits_until_it_is_over(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams, reply = Streams(monkeypatch, backlog=1000), asyncio.Event()
        streams.reserve = lambda _count: reply.wait()
        async with streams.read():
            streams.parts.paused = True
            reply.set()
            await asyncio.sleep(5)
            assert streams.reserved == [TAKE_MAX]
            assert streams.intake.coming == ROOM - TAKE_MAX
            streams.parts.paused = False
            await asyncio.sleep(1)
            assert sum(streams.reserved) == 1000
        assert streams.intake.coming == 0

    run_virtually(story)


def test_what_is_being_reserved_as_the_drain_comes_is_begun(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        streams = Streams(monkeypatch, backlog=TAKE_MAX)
        streams.reserve = lambda _count: asyncio.sleep(0.5)
        async with streams.read(0.1):
            assert streams.intake.coming == TAKE_MAX
        assert streams.reserved == [TAKE_MAX]

    run_virtually(story)


@pytest.mark.parametrize("is_away", [True, False])
def test_a_loop_that_stands_still_is_told_from_one_whose_broker_is_away(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch, *, is_away: bool
) -> None:
    async def story() -> None:
        streams, never = Streams(monkeypatch, backlog=1), asyncio.Event()

        async def ask() -> None:
            if is_away:
                raise BrokerUnavailable("away")
            await never.wait()

        streams.reserve = lambda _count: streams.insist("reserve", ask)
        reading = asyncio.ensure_future(streams.intake.run())
        await asyncio.sleep(STILL_SECONDS / 2)
        assert streams.intake.moving
        await asyncio.sleep(STILL_SECONDS)
        assert streams.intake.moving is is_away
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    run_virtually(story)
