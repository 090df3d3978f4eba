"""What a worker was told to stop it stops at once, or asks again: Redis may have lost the word meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from allocator.broker.broker import Condemned
from allocator.engine.stopper import FRESH_SECONDS, HOLD_MS, stop_condemned
from allocator.providers.provider import Session
from tests.simulation.levers import PROVIDER
from tests.simulation.process import Process
from tests.simulation.scenario import Chaos, HostFaults, scenario
from tests.simulation.virtual_loop import context_of
from tests.simulation.wire import WireFaults
from tests.simulation.world import World

CONDEMNED = Condemned(PROVIDER, "s-1", "left behind")


@pytest.mark.parametrize(("late_seconds", "stops"), [(0.0, 1), (FRESH_SECONDS + 0.1, 0)])
def test_a_claim_that_has_grown_old_stops_nothing_until_it_is_made_anew(
    late_seconds: float, stops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(replace(scenario(1), neighbour=None, store=WireFaults(), host=HostFaults(), chaos=Chaos()))
    fleet = world.fleets[0]
    process = Process("w0", fleet)
    real, delays = process.view.claim_condemned, [late_seconds]

    async def claim(count: int, hold_ms: int) -> list[Condemned]:
        given = await real(count, hold_ms)
        await asyncio.sleep(sum(delays))
        return given

    monkeypatch.setattr(process.view, "claim_condemned", claim)

    async def history() -> None:
        world.host.put(
            Session("s-1", "127.0.0.1", (), "asia", "game", mark=fleet.deployment, namespace=fleet.namespace)
        )
        fleet.store.condemn(CONDEMNED, 0)
        await stop_condemned(process.parts)
        assert len(world.host.stops) == stops
        delays.clear()
        await asyncio.sleep(HOLD_MS / 1000 + FRESH_SECONDS)
        await stop_condemned(process.parts)
        assert world.host.stops
        await process.lanes.close()

    asyncio.set_event_loop(None)
    try:
        world.loop.run_until_complete(world.loop.create_task(history(), context=context_of("w0")))
    finally:
        world.loop.close()
