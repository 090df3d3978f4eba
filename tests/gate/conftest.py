"""A gatehouse: gates over one state, and a hand on its clock.

The clock stands still until a test lets time pass, on both sides: for the twin it takes the loop's place, for the
fleet's gate it lies in Redis and the scripts read it instead of the server's. So a busy machine changes nothing.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import replace

import pytest

from allocator.gate import fleet as fleet_module
from allocator.gate import memory as memory_module
from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Gate
from allocator.gate.memory import MemoryGate
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.scripts import Script

PROBE_HOLD_SECONDS = 10.0
CLOCK = "clock-of-the-test"
SERVERS_TIME = "redis.call('TIME')"
TESTS_TIME = f"redis.call('HMGET', '{CLOCK}', 'seconds', 'microseconds')"


class Gatehouse(ABC):
    """What both have in common."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000_000

    @abstractmethod
    def gate(self) -> Gate: ...

    def now(self) -> float:
        return self.now_us / 1e6

    async def pass_seconds(self, seconds: float) -> None:
        self.now_us += round(seconds * 1e6)


class TwinGatehouse(Gatehouse):
    def __init__(self) -> None:
        super().__init__()
        self._gate = MemoryGate(probe_hold_seconds=PROBE_HOLD_SECONDS, chance=random.Random(7))

    def gate(self) -> Gate:
        return self._gate


class FleetGatehouse(Gatehouse):
    def __init__(self, connection: RedisConnection) -> None:
        super().__init__()
        self.connection = connection

    def gate(self) -> FleetGate:
        return FleetGate(self.connection, probe_hold_seconds=PROBE_HOLD_SECONDS, chance=random.Random(7))

    async def keys(self) -> list[bytes]:
        found: list[bytes] = await self.connection.execute("KEYS", "*")
        return sorted(key for key in found if key != CLOCK.encode())

    async def pass_seconds(self, seconds: float) -> None:
        await super().pass_seconds(seconds)
        whole, rest = divmod(self.now_us, 1_000_000)
        await self.connection.execute("HSET", CLOCK, "seconds", whole, "microseconds", rest)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> TwinGatehouse:
    house = TwinGatehouse()
    monkeypatch.setattr(memory_module, "_now", house.now)
    return house


@pytest.fixture
async def fleet(connection: RedisConnection, monkeypatch: pytest.MonkeyPatch) -> FleetGatehouse:
    for name, script in vars(fleet_module).copy().items():
        if isinstance(script, Script):
            assert SERVERS_TIME in script.source, f"{script.name} reads no clock"
            monkeypatch.setattr(
                fleet_module, name, replace(script, source=script.source.replace(SERVERS_TIME, TESTS_TIME))
            )
    house = FleetGatehouse(connection)
    await house.pass_seconds(0)
    return house
