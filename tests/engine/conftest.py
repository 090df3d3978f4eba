"""A whole engine in this process: real broker and gate on the test's server, a simulated Gameye at the other end.

    fleet   a `Fleet`: `await fleet.begin(settings of the simulator)`, `await fleet.worker()`, then requests by `send`

Afterwards every worker that was not cut dead is drained and must hold nothing: no request, no place in a lane, no slot.
A worker that has observed a fault of its own program fails the test, unless the test has taken it off the list.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from allocator.broker import streams
from allocator.broker.steps import Steps
from allocator.broker.streams_levers import StreamsLevers
from allocator.contract.keys import GROUP, Keys
from allocator.contract.request import Priority
from allocator.engine import worker as worker_module
from allocator.engine.lane import Lane
from allocator.engine.observer import Crashed, Event
from allocator.redis_io.connect import RedisConnection
from allocator.service import observers, wiring
from allocator.service.settings_model import Settings
from allocator.simulator.gameye import GameyeSimulator, RegionSettings, SimulatorSettings
from allocator.simulator.gameye.ledger import ENDED, Session

END_SECONDS = 10.0
LEAVE_SECONDS = 30.0
MANY_ANSWERS = 20
"""So many are not read again and again while the workers beside are at it."""
_figures = logging.getLogger("figures")

_owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="")
_owners: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()


def _owned(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    _owners[task] = _owner.get()
    return task


async def _no_group() -> None:
    """No group is read here, so that none can be lost."""


class Member:
    """One worker as a process of its own would be: with its connection, broker, gate, lanes, and what it observed."""

    def __init__(self, name: str, service: wiring.Service, events: list[Event]) -> None:
        self.name = name
        self.events = events
        self.settings = service.settings
        (self.parts,) = service.parts
        (self.worker,) = service.worker._workers
        self.running: asyncio.Task[None] | None = None
        self._service = service

    def start(self) -> None:
        token = _owner.set(self.name)
        self.running = asyncio.get_running_loop().create_task(self.worker.run())
        _owner.reset(token)

    async def drain(self) -> None:
        """Leave in good order."""
        assert self.running is not None
        self.worker.drain()
        async with asyncio.timeout(LEAVE_SECONDS):
            await self.running
            await self.parts.broker.close()
        await self._close()
        self._assert_nothing_held()

    async def cut(self) -> None:
        """Break everything off where it is, as the end of a process does: nothing is handed back."""
        async with asyncio.timeout(LEAVE_SECONDS):
            while own := [task for task in asyncio.all_tasks() if _owners.get(task) == self.name]:
                for task in own:
                    task.cancel()
                await asyncio.wait(own, timeout=0.05)
            await self._close()

    async def _close(self) -> None:
        self.running = None
        await self._service.close()

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def lanes(self) -> list[Lane]:
        return list(self.parts.lanes)

    def _assert_nothing_held(self) -> None:
        assert self.worker.held == 0
        assert self.worker._held_bytes == 0
        for lane in self.lanes():
            assert (lane._out, lane.waiting, lane._held) == (0, 0, 0), lane.destination
        assert self.parts.lanes._slots.free == self.settings.worker.concurrency
        assert [event.error for event in self.seen(Crashed)] == []


class Fleet:
    """Workers on one server over one simulated Gameye, and the matchmaker that sends to them."""

    def __init__(self, url: str, connection: RedisConnection, namespace: str, wait_until: Any) -> None:
        self.url = url
        self.connection = connection
        self.keys = Keys(namespace)
        self.members: list[Member] = []
        self.simulator: GameyeSimulator
        self._wait_until = wait_until
        self._entered = False

    async def begin(self, regions: dict[str, RegionSettings] | None = None, **options: Any) -> None:
        """Start the simulated Gameye; without faults unless they are given."""
        settings = self.simulated(regions, **options)
        self.simulator = GameyeSimulator(settings)
        await self.simulator.__aenter__()
        self._entered = True

    def simulated(self, regions: dict[str, RegionSettings] | None = None, **options: Any) -> SimulatorSettings:
        named = regions or {"europe": RegionSettings(), "us-east": RegionSettings()}
        return SimulatorSettings(**{"regions": named, "faults": (), **options})

    def apply(self, regions: dict[str, RegionSettings] | None = None, **options: Any) -> None:
        """Let the simulated Gameye behave otherwise from now on."""
        self.simulator.apply(self.simulated(regions, **options))

    async def worker(
        self, *, rates: dict[str, float] | None = None, worker: dict[str, Any] | None = None, **options: Any
    ) -> Member:
        """One more worker, ready; rates are 1,000 a second unless they are given."""
        gameye = {"base_url": self.simulator.base_url, "account": "studio", "token": "secret", "timeout_seconds": 3}
        regions = {name: {"rate": rate} for name, rate in (rates or {"europe": 1000, "us-east": 1000}).items()}
        events: list[Event] = []
        settings = Settings(
            **{
                "deployment": "tests",
                "namespace": self.keys.namespace,
                "redis": {"url": self.url},
                "gameye": {**gameye, **options.pop("gameye", {})},
                "regions": regions,
                "default_regions": tuple(regions),
                "worker": {"lease_seconds": 1, **(worker or {})},
                **options,
            }
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(observers, "_fan_out", lambda _observers: events.append)
            member = Member(f"worker-{len(self.members)}", await wiring.assemble(settings), events)
        self.members.append(member)
        member.start()
        await self._wait_until(lambda: member.worker.ready)
        return member

    async def send(self, priority: Priority = Priority.NORMAL, /, **request: Any) -> str:
        """What a matchmaker does: one XADD."""
        return await self.send_bytes(json.dumps({"image": "game", **request}).encode(), priority)

    async def send_bytes(self, raw: bytes, priority: Priority = Priority.NORMAL) -> str:
        entry: bytes = await self.connection.execute("XADD", self.keys.requests(priority), "*", "request", raw)
        return entry.decode()

    async def send_many(
        self, count: int, prefix: str = "m", priority: Priority = Priority.NORMAL, /, **request: Any
    ) -> list[str]:
        ids = [f"{prefix}-{number}" for number in range(count)]
        stream = self.keys.requests(priority)
        await self.connection.execute_many(
            [("XADD", stream, "*", "request", json.dumps({"id": each, "image": "game", **request})) for each in ids]
        )
        return ids

    async def answer(self, request_id: str) -> dict[str, str]:
        """`HGETALL` of one allocation."""
        return (await self.answers([request_id]))[0]

    async def answers(self, request_ids: list[str]) -> list[dict[str, str]]:
        replies = await self.connection.execute_many([("HGETALL", self.keys.allocation(each)) for each in request_ids])
        words = [[word.decode() for word in reply] for reply in replies]
        return [dict(zip(each[::2], each[1::2], strict=True)) for each in words]

    async def ended(self, *request_ids: str, seconds: float = END_SECONDS) -> list[dict[str, str]]:
        """The answers of all these once each has its end."""

        async def all_told() -> bool:
            return int(await self.connection.execute("XLEN", self.keys.results)) >= len(request_ids)

        async def all_final() -> bool:
            return all(answer.get("final") == "1" for answer in await self.answers(list(request_ids)))

        if len(request_ids) > MANY_ANSWERS:
            await self._wait_until(all_told, timeout_seconds=seconds)
        await self._wait_until(all_final, timeout_seconds=seconds)
        return await self.answers(list(request_ids))

    async def stream(self, key: str) -> list[dict[str, str]]:
        entries = await self.connection.execute("XRANGE", key, "-", "+")
        found = []
        for _, fields in entries:
            words = [word.decode(errors="backslashreplace") for word in fields]
            found.append(dict(zip(words[::2], words[1::2], strict=True)))
        return found

    async def results(self, request_id: str | None = None) -> list[dict[str, str]]:
        every = await self.stream(self.keys.results)
        return [each for each in every if request_id in {None, each["request_id"]}]

    async def nothing_is_left(self) -> bool:
        """Whether every stream of requests, its pending list and the leases are empty."""
        for priority in Priority:
            stream = self.keys.requests(priority)
            if await self.connection.execute("XLEN", stream):
                return False
            if (await self.connection.execute("XPENDING", stream, GROUP))[0]:
                return False
        return not await self.connection.execute("ZCARD", self.keys.leases)

    async def parked(self) -> int:
        """How many requests wait outside."""
        return int(await self.connection.execute("SCARD", self.keys.parked))

    async def waiting_outside(self, count: int, seconds: float = END_SECONDS) -> None:
        """Wait until at least so many requests are parked."""

        async def parked() -> bool:
            return await self.parked() >= count

        await self._wait_until(parked, timeout_seconds=seconds)

    def levers(self) -> StreamsLevers:
        """What operators set, as `allocator regions` and `allocator pause` do."""
        return StreamsLevers(Steps(self.connection, _no_group), self.keys)

    def measured(self, sentence: str) -> None:
        """Say a figure, for who runs the tests with `-rP --log-level=INFO`."""
        _figures.info(sentence)

    def posts(self, location: str | None = None) -> int:
        return sum(location in {None, post.location} for post in self.simulator.ledger.posts)

    def alive(self) -> list[Session]:
        return [session for session in self.simulator.ledger.sessions if session.status not in ENDED]

    async def assert_one_session_each(self, request_ids: list[str]) -> None:
        """What was recorded lives, nothing else does, and no two requests have one session."""
        answers = await self.answers(request_ids)
        recorded = Counter(answer["session_id"] for answer in answers if answer["state"] == "allocated")
        assert recorded == Counter(session.id for session in self.alive())
        assert all(count == 1 for count in recorded.values())

    async def end(self) -> None:
        for member in self.members:
            if member.running is not None:
                await member.drain()

    async def close(self) -> None:
        for member in self.members:
            if member.running is not None:
                await member.cut()
        if self._entered:
            await self.simulator.__aexit__(None, None, None)


@pytest.fixture
def keys_without_ttl(namespace: str) -> tuple[str, ...]:
    keys = Keys(namespace)
    return tuple(key.removeprefix(f"{keys.prefix}:") for key in keys.lasting)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that look ten times as often, and reads that end as soon, so that a drain does."""
    monkeypatch.setattr(streams, "BLOCK_MS", 50)
    monkeypatch.setattr(worker_module, "TICK_SECONDS", 0.1)


@pytest.fixture
async def make_fleet(namespace: str, wait_until: Any, quick: None) -> AsyncIterator[Callable[..., Fleet]]:
    """Makes a `Fleet` on any server, for a test that has one of its own."""
    asyncio.get_running_loop().set_task_factory(_owned)
    made: list[Fleet] = []

    def make(url: str, connection: RedisConnection) -> Fleet:
        made.append(Fleet(url, connection, namespace, wait_until))
        return made[-1]

    try:
        yield make
        for each in made:
            await each.end()
    finally:
        for each in made:
            await each.close()
        asyncio.get_running_loop().set_task_factory(None)


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet], redis_url: str, connection: RedisConnection) -> Fleet:
    return make_fleet(redis_url, connection)
