"""What only a real server shows: lifetimes, slots, round trips, a clock that goes back, a server away or full."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.gate.fleet import FleetGate
from allocator.gate.gate import REACH_SECONDS, Ask, Cause, GateUnavailable, Limit
from allocator.redis_io.connect import RedisConnection, connect

if TYPE_CHECKING:
    from tests.conftest import TestServer
    from tests.gate.conftest import FleetGatehouse

EUROPE = Limit("gameye", "studio", "europe", 60.0)
ACCOUNT = Limit("gameye", "studio", "*", 100.0)


class Counting:
    """A connection that counts what it sends."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self.sent = 0

    async def execute(self, *command: Any) -> Any:
        self.sent += 1
        return await self._connection.execute(*command)


async def test_every_key_has_a_lifetime_and_one_slot(fleet: FleetGatehouse) -> None:
    gate, unlimited = fleet.gate(), replace(EUROPE, scope="us", rate=None)
    await gate.permits(Ask((EUROPE, ACCOUNT), 5))
    await gate.permits(Ask((unlimited, ACCOUNT), 1))
    await gate.shut(unlimited, Cause.FULL, 0)
    assert (await gate.permits(Ask((unlimited,), 1))).probe
    await gate.open([EUROPE, ACCOUNT, replace(EUROPE, scope="never-asked")])
    names = sorted(await fleet.connection.execute("KEYS", "*"))
    scopes = (b"*", b"europe", b"us")
    assert names == [b"{allocator}:internal:gate:gameye:studio:" + scope for scope in scopes]
    for name in names:
        assert 0 < await fleet.connection.execute("PTTL", name) <= 3_600_000


async def test_asks_of_one_turn_travel_together(fleet: FleetGatehouse) -> None:
    counting: Any = Counting(fleet.connection)
    gate = FleetGate(counting, probe_hold_seconds=10, chance=random.Random(1))
    await gate.permits(Ask((EUROPE,), 1))
    counting.sent = 0
    limits = [replace(EUROPE, scope=f"region-{number}") for number in range(20)]
    grants = await asyncio.gather(*(gate.permits(Ask((limit, ACCOUNT), 1)) for limit in limits))
    assert counting.sent == 1
    given = [offset for grant in grants for offset in grant.offsets_seconds]
    assert len(given) in (2, 3)
    assert len(set(given)) == len(given)


async def test_a_clock_that_went_back_stops_no_lane(fleet: FleetGatehouse) -> None:
    gate = fleet.gate()
    await gate.permits(Ask((EUROPE,), 1))
    await fleet.pass_seconds(-3600)
    grant = await gate.permits(Ask((EUROPE,), 1))
    assert grant.wait_seconds <= REACH_SECONDS + 1 / 50


async def test_in_full_memory_the_limits_still_hold(private_server: TestServer) -> None:
    async with await connect(private_server.url, name="test") as connection:
        await connection.execute("CONFIG", "SET", "maxmemory", 1)
        gate = FleetGate(connection, probe_hold_seconds=10, chance=random.Random(1))
        assert len((await gate.permits(Ask((EUROPE,), 50))).offsets_seconds) == 6
        assert len((await gate.permits(Ask((EUROPE,), 50))).offsets_seconds) <= 1
        assert await gate.shut(ACCOUNT, Cause.FULL, 0) == 0
        assert (await gate.permits(Ask((ACCOUNT,), 1))).probe
        await gate.open([ACCOUNT])
        assert (await gate.permits(Ask((ACCOUNT,), 2))).probe is False


async def test_a_server_that_is_away_gives_no_permit(private_server: TestServer) -> None:
    async with await connect(private_server.url, name="test") as connection:
        gate = FleetGate(connection, probe_hold_seconds=10, chance=random.Random(1))
        private_server.kill()
        for step in (gate.permits(Ask((EUROPE,), 1)), gate.shut(EUROPE, Cause.FULL, None), gate.open([EUROPE])):
            with pytest.raises(GateUnavailable):
                await step
        private_server.start()
        assert len((await gate.permits(Ask((EUROPE,), 1))).offsets_seconds) == 1


async def test_a_server_that_lost_its_scripts_goes_on(fleet: FleetGatehouse) -> None:
    gate = fleet.gate()
    for _ in range(2):
        await fleet.connection.execute("SCRIPT", "FLUSH")
        assert (await gate.permits(Ask((EUROPE,), 1))).closed is None
