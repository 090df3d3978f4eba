"""The console's reader: it reads while somebody looks, once a second at most, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from allocator.broker.broker import BrokerUnavailable, Depth, Survey
from allocator.broker.levers import Levers
from allocator.contract.request import Priority
from allocator.redis_io.errors import RedisUrlError
from allocator.service.console.reader import IDLE_SECONDS, Reader
from allocator.service.look import Look
from tests.conftest import RunVirtually

LOOK = Look(
    at_ms=1,
    namespace="n",
    survey=Survey(held=7, condemned=0, depths={priority: Depth(0, 0, 0) for priority in Priority}),
    cancellations=0,
    dead_letters=0,
    orphans=None,
    levers=Levers(),
    regions=(),
    results=(),
    ended=None,
)


class Redis:
    """What a test makes of it: `faults` come first, one a look; `hangs` lets no look end."""

    def __init__(self, *faults: Exception, hangs: bool = False, opening: Exception | None = None) -> None:
        self.seen: Counter[str] = Counter()
        self.is_open = False
        self._faults = list(faults)
        self._hangs = hangs
        self._opening = opening

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Redis]:
        self.seen["opened"] += 1
        if self._opening is not None:
            raise self._opening
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    async def look(self) -> Look:
        self.seen["looks"] += 1
        if self._hangs:
            await asyncio.Event().wait()
        if self._faults:
            raise self._faults.pop(0)
        return LOOK


def told(reader: Reader) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(reader.ask())
    return read


def test_however_many_look_it_is_read_once_a_second(run_virtually: RunVirtually) -> None:
    redis = Redis()

    async def story() -> None:
        reader = Reader(redis.opened)
        assert told(reader) == {"age_seconds": None}
        for _ in range(500):
            await asyncio.sleep(0.01)
            reader.ask()
        assert redis.seen["opened"] == 1
        assert redis.seen["looks"] in {5, 6}
        assert told(reader) | {"age_seconds": 0} == {"age_seconds": 0, **LOOK.to_data()}
        assert 0 <= told(reader)["age_seconds"] <= 1
        await reader.aclose()

    run_virtually(story)


def test_it_ends_when_nobody_looks_and_what_was_read_is_forgotten(run_virtually: RunVirtually) -> None:
    redis = Redis()

    async def story() -> None:
        reader = Reader(redis.opened)
        reader.ask()
        await asyncio.sleep(IDLE_SECONDS - 1)
        assert reader.is_reading
        await asyncio.sleep(3)
        assert not reader.is_reading
        assert not redis.is_open
        looks = redis.seen["looks"]
        await asyncio.sleep(60)
        assert redis.seen["looks"] == looks <= IDLE_SECONDS + 1
        assert told(reader) == {"age_seconds": None}
        await asyncio.sleep(1)
        assert told(reader)["allocating"] == 7
        assert redis.seen["opened"] == 2
        await reader.aclose()

    run_virtually(story)


def test_a_redis_that_is_away_is_said_beside_what_was_read_last(run_virtually: RunVirtually) -> None:
    redis = Redis(BrokerUnavailable("Redis is away", "connection"))

    async def story() -> None:
        reader = Reader(redis.opened)
        reader.ask()
        await asyncio.sleep(0.5)
        assert told(reader) == {"age_seconds": None, "error": "Redis is away"}
        await asyncio.sleep(1)
        assert "error" not in told(reader)
        redis._faults += [BrokerUnavailable("Redis is away", "connection")] * 3
        await asyncio.sleep(3)
        away = told(reader)
        assert (away["error"], away["allocating"]) == ("Redis is away", 7)
        assert away["age_seconds"] >= 2
        assert redis.seen["opened"] == 1
        await reader.aclose()

    run_virtually(story)


def test_a_redis_that_hangs_holds_up_no_answer_and_no_end(run_virtually: RunVirtually) -> None:
    redis = Redis(hangs=True)

    async def story() -> None:
        reader = Reader(redis.opened)
        for _ in range(3):
            assert told(reader) == {"age_seconds": None}
            await asyncio.sleep(1)
        assert redis.is_open
        await reader.aclose()
        assert not redis.is_open
        assert told(reader) == {"age_seconds": None}
        assert not reader.is_reading

    run_virtually(story)


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        (Redis(opening=RedisUrlError("redis.url is none")), "redis.url is none"),
        (Redis(opening=OSError(24, "secret")), "the fleet cannot be read: OSError; the log has more"),
        (Redis(*[KeyError("secret")] * 9), "the fleet cannot be read: KeyError; the log has more"),
    ],
)
def test_whatever_goes_wrong_is_said_and_tried_again_once_a_second(
    run_virtually: RunVirtually, redis: Redis, said: str
) -> None:
    async def story() -> None:
        reader = Reader(redis.opened)
        for _ in range(30):
            reader.ask()
            await asyncio.sleep(0.1)
        assert told(reader) == {"age_seconds": None, "error": said}
        assert redis.seen["opened"] in {3, 4}
        await reader.aclose()

    run_virtually(story)
