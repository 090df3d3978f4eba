"""What only a real server shows: lifetimes, slots, round trips, a clock that goes back, a server away or full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Ask, Cause, GateUnavailable, Limit, Verdict
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
    await gate.doubt(replace(EUROPE, scope="us-0"))
    await gate.verdict(replace(EUROPE, scope="us-1"))
    await gate.slow(replace(EUROPE, scope="us-2"), 0.1)
    await gate.judge(replace(EUROPE, scope="us-3"), Verdict.FULL)
    await gate.may_repeat(replace(EUROPE, scope="us-4"), 1)
    await gate.states([replace(EUROPE, scope="never-asked")])
    names = await fleet.keys()
    scopes = (b"*", b"europe", b"us", *(f"us-{number}".encode() for number in range(5)))
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
        assert await gate.slow(EUROPE, 0.1) == 54
        assert await gate.verdict(EUROPE) is Verdict.ASK
        await gate.judge(EUROPE, Verdict.FULL)
        assert await gate.verdict(EUROPE) is Verdict.FULL
        assert await gate.may_repeat(ACCOUNT, 0)
        for _ in range(5):
            await gate.doubt(EUROPE)
        (state,) = await gate.states([EUROPE])
        assert (state.cause, state.unknown_in_a_row) == (Cause.SET_ASIDE, 5)


async def test_a_probe_is_waited_for_as_long_as_the_settings_in_force_say(fleet: FleetGatehouse) -> None:
    gate = fleet.gate()
    await fleet.pass_seconds(await gate.shut(ACCOUNT, Cause.UNAVAILABLE, None) + 0.01)
    gate.probe_hold_seconds = 60.0
    assert (await gate.permits(Ask((ACCOUNT,), 1))).probe
    await fleet.pass_seconds(59)
    assert not (await gate.permits(Ask((ACCOUNT,), 1))).probe
    await fleet.pass_seconds(1.1)
    assert (await gate.permits(Ask((ACCOUNT,), 1))).probe


async def test_a_server_that_is_away_gives_no_permit(private_server: TestServer) -> None:
    async with await connect(private_server.url, name="test") as connection:
        gate = FleetGate(connection, probe_hold_seconds=10, chance=random.Random(1))
        private_server.kill()
        steps: list[Coroutine[Any, Any, Any]] = [
            *(gate.permits(Ask((EUROPE,), 1)), gate.shut(EUROPE, Cause.FULL, None), gate.open([EUROPE])),
            *(gate.doubt(EUROPE), gate.slow(EUROPE, 0.1), gate.verdict(EUROPE), gate.judge(EUROPE, Verdict.FULL)),
            *(gate.may_repeat(ACCOUNT, 0), gate.states([EUROPE])),
        ]
        for step in steps:
            with pytest.raises(GateUnavailable):
                await step
        private_server.start()
        assert len((await gate.permits(Ask((EUROPE,), 1))).offsets_seconds) == 1


async def test_a_server_that_lost_its_scripts_goes_on(fleet: FleetGatehouse) -> None:
    gate = fleet.gate()
    for _ in range(2):
        await fleet.connection.execute("SCRIPT", "FLUSH")
        assert (await gate.permits(Ask((EUROPE,), 1))).closed is None
