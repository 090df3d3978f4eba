"""A gatehouse: gates over one state, and a hand on its clock.

Time is made to pass by moving every remembered moment into the past, so that a minute costs a moment on both sides.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod

import pytest

from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Gate
from allocator.gate.memory import MemoryGate
from allocator.redis_io.connect import RedisConnection

PROBE_HOLD_SECONDS = 10.0
MOMENTS = ("tat", "until", "probe")


class Gatehouse(ABC):
    """What both have in common."""

    def __init__(self) -> None:
        self.passed_seconds = 0.0

    @abstractmethod
    def gate(self) -> Gate: ...

    @abstractmethod
    async def now(self) -> float: ...

    @abstractmethod
    async def pass_seconds(self, seconds: float) -> None: ...


class TwinGatehouse(Gatehouse):
    def __init__(self) -> None:
        super().__init__()
        self._gate = MemoryGate(probe_hold_seconds=PROBE_HOLD_SECONDS, chance=random.Random(7))

    def gate(self) -> Gate:
        return self._gate

    async def now(self) -> float:
        return asyncio.get_running_loop().time() + self.passed_seconds

    async def pass_seconds(self, seconds: float) -> None:
        self.passed_seconds += seconds
        for state in self._gate._states.values():
            state.due -= seconds
            state.shut_until -= seconds
            state.probe_until -= seconds


class FleetGatehouse(Gatehouse):
    def __init__(self, connection: RedisConnection) -> None:
        super().__init__()
        self.connection = connection

    def gate(self) -> Gate:
        return FleetGate(self.connection, probe_hold_seconds=PROBE_HOLD_SECONDS, chance=random.Random(7))

    async def now(self) -> float:
        seconds, microseconds = await self.connection.execute("TIME")
        return int(seconds) + int(microseconds) / 1e6 + self.passed_seconds

    async def keys(self) -> list[bytes]:
        found: list[bytes] = await self.connection.execute("KEYS", "{allocator}:internal:gate:*")
        return found

    async def pass_seconds(self, seconds: float) -> None:
        self.passed_seconds += seconds
        for key in await self.keys():
            for moment in MOMENTS:
                if await self.connection.execute("HEXISTS", key, moment):
                    await self.connection.execute("HINCRBY", key, moment, -round(seconds * 1e6))


@pytest.fixture
def twin() -> TwinGatehouse:
    return TwinGatehouse()


@pytest.fixture
def fleet(connection: RedisConnection) -> FleetGatehouse:
    return FleetGatehouse(connection)
