"""One worker process of a fleet: the engine, put together as the composition root does, over views of the twins.

In: a fleet. Out: a `Worker` that runs until it has left. What befalls it is left to the chaos.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_census import MemoryCensus
from allocator.broker.memory_parking import MemoryParking
from allocator.contract.allocation import Outcome
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Attempted, Event
from allocator.engine.parts import Parts
from allocator.engine.reconciler import Reconciler
from allocator.engine.worker import Worker
from tests.simulation.checkers.calls import CallsOfOne
from tests.simulation.host_view import HostView
from tests.simulation.levers import LOOK_SECONDS, PROVIDER, LeversInForce
from tests.simulation.views import AftermathView, BrokerView, CensusView, GateView, ParkingView
from tests.simulation.wire import Wire, WireFaults

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

EPOCH_MS = 1_700_000_000_000
EAGER_TURN_MS = 1_500
EAGER_SECONDS = 4.0
RESULT_TTL_MS = 7_200_000


class Process:
    """One worker process."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        world, scenario, trace = fleet.world, fleet.world.scenario, fleet.world.trace
        self.name = name
        self.running = True
        """Whether it takes requests up."""
        self.broken_off = False
        """Whether it was ended or asked to go amid the faults: what it knew may be lost."""
        self._fleet = fleet
        chance = random.Random(f"{scenario.seed} {name}")
        fences = itertools.count()
        lease_ms = round(scenario.lease_seconds * 1000)
        faults = WireFaults(timeout_seconds=scenario.store.timeout_seconds) if world.calm else scenario.store
        self.store_wire = Wire("store", faults, random.Random(f"{scenario.seed} {name} store"), trace)
        self.host_wire = Wire("host", WireFaults(), random.Random(f"{scenario.seed} {name} host"), trace)
        broker = MemoryBroker(
            fleet.store,
            deployment=fleet.deployment,
            lease_ms=lease_ms,
            result_ttl_ms=RESULT_TTL_MS,
            fence=lambda: f"{name}-{next(fences)}",
        )
        self.view = BrokerView(broker, self.store_wire, trace)
        aftermath = MemoryAftermath(
            fleet.store, lease_ms=lease_ms, result_ttl_ms=RESULT_TTL_MS, fence=lambda: f"{name}-s{next(fences)}"
        )
        parking = MemoryParking(fleet.store, lease_ms=lease_ms, fence=lambda: f"{name}-p{next(fences)}")
        gate = GateView(world.gate, self.store_wire)
        self.levers = LeversInForce(fleet, self.store_wire)
        kept_share = scenario.waits.kept_share
        self.lanes = Lanes(
            gate=gate,
            concurrency=scenario.concurrency,
            limits_of=self.levers.limits_of,
            account_of=lambda _name: PROVIDER,
            observe=self._observe,
            chance=chance,
            kept_share_of=lambda _destination: kept_share,
            open_by=self.levers.open_by,
        )
        self._calls = CallsOfOne(name, fleet, self.view, self.levers)
        self.view.takes = self._calls.takes
        self.view.doubted = fleet.losses.asked_again
        self.parts = Parts(
            broker=self.view,
            aftermath=AftermathView(aftermath, self.store_wire, trace),
            parking=ParkingView(parking, self.store_wire, trace, parked=fleet.lots.parked),
            gate=gate,
            lanes=self.lanes,
            providers={PROVIDER: HostView(world.host, self.host_wire, trace, self._calls, epoch_ms=EPOCH_MS)},
            atlas=self.levers.region,
            policy=fleet.policy,
            observe=self._observe,
            insist=Insistence(self._observe, chance),
            chance=chance,
            answers=world.games.answers,
            paused=self.levers.paused,
            loop=world.loop,
        )
        self.levers.follow = self._follow
        turn_ms_max = EAGER_TURN_MS if scenario.eager else None
        census = CensusView(MemoryCensus(fleet.store), self.store_wire, trace, turn_ms_max=turn_ms_max)
        self._reconciler = Reconciler(self.parts, census)
        self.worker = Worker(self.parts, self._reconciler, beside=[(LOOK_SECONDS, "levers", self.levers.look)])

    async def run(self) -> None:
        """Serve until it has left."""
        looking = asyncio.get_running_loop().create_task(self._look_often())
        try:
            await self.worker.run()
        finally:
            looking.cancel()
        self.running = False
        await self.parts.judgement.close()

    def leave(self) -> None:
        """Ask it to go in good order."""
        self.running = False
        self.broken_off = not self._fleet.world.calm
        self.worker.drain()

    async def _look_often(self) -> None:
        """In an eager world the reconciler has more turns than its own."""
        chance = random.Random(f"{self._fleet.world.scenario.seed} {self.name} eager")
        while self._fleet.world.scenario.eager:
            await asyncio.sleep(EAGER_SECONDS * (0.25 + chance.random()))
            try:
                await self._reconciler.look()
            except BrokerUnavailable as trouble:
                self._fleet.world.trace.say(f"reconcile: {trouble}")

    def _follow(self) -> None:
        """Let what runs follow the levers in force, as the composition root does."""
        self.parts.paused = self.levers.paused
        self.lanes.refresh()

    def _observe(self, event: Event) -> None:
        if isinstance(event, Attempted) and event.outcome is Outcome.CREATED:
            self._fleet.heard_of(self._calls.created[event.request_id], self)
        self._fleet.observe(event)
