"""One world: a host, and fleets of workers with a store and a matchmaker each, on one loop; built, run and judged.

In: a scenario. Out: its trace and its violations. The engine is the real one, put together as the composition root
does, over views of the twins. A world ends once all is at rest after the last fault, or when it should have been.
"""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import replace

from allocator.gate.memory import MemoryGate
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.provider import SessionState
from tests.simulation.chaos import Havoc
from tests.simulation.checkers.checker import Checker
from tests.simulation.checkers.rates import Rates
from tests.simulation.fleet import FAULT, FIRST, Fleet
from tests.simulation.host_faults import HostDice, SimulatedHost
from tests.simulation.process import EPOCH_MS, Process
from tests.simulation.scenario import REGIONS, Neighbour, Scenario
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.wire import WireFaults

DEPLOYMENT = "sim"
STEPS_MAX = 400_000
LEAVING_SECONDS = 9.0


class World:
    """One seed's world."""

    def __init__(self, scenario: Scenario) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.trace = Trace()
        self.calm = False
        self.loop = VirtualLoop(random.Random(f"{seed} loop"))
        self.loop.set_exception_handler(lambda _loop, context: self._fault(context))
        self.gate = MemoryGate(
            probe_hold_seconds=scenario.call_timeout_seconds + 2.0, chance=random.Random(f"{seed} gate")
        )
        self.dice = HostDice(scenario.host, random.Random(f"{seed} host"), self.trace)
        capacities = (scenario.first_capacity, None, None)
        self.host = SimulatedHost(
            {region: MemoryLocation(capacity) for region, capacity in zip(REGIONS, capacities, strict=True)}, self.dice
        )
        self.dice.has_ended = self._ended_unnamed
        self.fleets = _fleets(self, scenario)
        self.checkers: tuple[Checker, ...] = (
            *(checker for fleet in self.fleets for checker in fleet.checkers),
            Rates(self),
        )
        self.loop.after_step = self._after_step

    @property
    def processes(self) -> list[Process]:
        """Every process that ever was."""
        return [process for fleet in self.fleets for process in fleet.processes]

    def running(self) -> list[Process]:
        """The workers that take requests up."""
        return [process for process in self.processes if process.running]

    def keep_staffed(self) -> None:
        """Start as many workers as are missing."""
        for fleet in self.fleets:
            fleet.keep_staffed()

    def kill(self, process: Process) -> None:
        """End it as kill -9 does."""
        self.trace.say(f"DEATH of {process.name}")
        process.running = False
        process.broken_off = True
        process.store_wire.dead = process.host_wire.dead = True
        self.loop.kill(process.name)
        self.trace.muted.add(process.name)

    def heal(self) -> None:
        """No fault from here on."""
        self.calm = self.dice.calm = True
        for fleet in self.fleets:
            fleet.store.away = fleet.store.full = False
        for process in self.processes:
            process.store_wire.faults = replace(WireFaults(), timeout_seconds=self.scenario.store.timeout_seconds)
            process.store_wire.cut = process.host_wire.cut = False
            process.view.skew_ms = 0
            self.loop.resume(process.name)
        for session in self.host.alive():
            if session.state is SessionState.UNCLEAR:
                self.host.set_state(session.id, SessionState.ALIVE)
        self.trace.say("CALM")
        self.keep_staffed()

    def run(self) -> Trace:
        """Let it happen, and judge it."""
        asyncio.set_event_loop(None)
        try:
            self.loop.run_until_complete(self._history())
        except RuntimeError as error:
            self.trace.violated(f"the world stands still: {error}")
        finally:
            for process in self.processes:
                process.store_wire.dead = process.host_wire.dead = True
                self.trace.muted.add(process.name)
            self.loop.after_step = lambda _process: None
            self.loop.set_exception_handler(lambda _loop, _context: None)
            self.loop.bury([process.name for process in self.processes])
            self.loop.bury(["world", "store", "host"])
            self.loop.close()
        return self.trace

    async def _history(self) -> None:
        loop = self.loop
        for fleet in self.fleets:
            fleet.leave_remains()
            fleet.leave_strangers()
        self.keep_staffed()
        havoc = loop.create_task(Havoc(self, random.Random(f"{self.scenario.seed} chaos")).run())
        asking = [loop.create_task(fleet.matchmaker.run()) for fleet in self.fleets]
        await havoc
        await asyncio.gather(*asking)
        last_ms = max(asked.deadline_ms for fleet in self.fleets for asked in fleet.matchmaker.asked.values())
        bound = max(loop.time(), (last_ms - EPOCH_MS) / 1000) + self.scenario.lease_seconds + 90.0
        while loop.time() < bound and not all(checker.settled() for checker in self.checkers):
            await asyncio.sleep(0.5)
            for checker in self.checkers:
                checker.look()
        if self.scenario.through_the_horizon:
            await asyncio.sleep(11 * 60)
        for process in self.running():
            process.leave()
        await asyncio.sleep(LEAVING_SECONDS)
        for checker in self.checkers:
            checker.judge()

    def _ended_unnamed(self, name: str) -> bool:
        entry = self.host.ledger.get(name)
        ended = entry is not None and entry.session.state is SessionState.ENDED
        return ended and not any(name in fleet.store.handed_over for fleet in self.fleets)

    def _after_step(self, process: str) -> None:
        if self.loop.steps > STEPS_MAX:
            self.loop.stop()
        if process == "host":
            for fleet in self.fleets:
                fleet.sessions.after_host_step()

    def _fault(self, context: dict[str, object]) -> None:
        self.trace.violated(f"{FAULT}: {context.get('message')} {context.get('exception')!r}")


def _fleets(world: World, scenario: Scenario) -> list[Fleet]:
    """The fleet itself, and who shares its account: smaller, and under the same faults."""
    first = Fleet(world, scenario, name=FIRST, deployment=DEPLOYMENT, namespace="allocator")
    beside = replace(scenario, workers=1, requests=max(4, scenario.requests // 2))
    match scenario.neighbour:
        case None:
            return [first]
        case Neighbour.DEPLOYMENT:
            return [first, Fleet(world, beside, name="n", deployment="other", namespace="allocator")]
        case Neighbour.NAMESPACE:
            return [first, Fleet(world, beside, name="n", deployment=DEPLOYMENT, namespace="more", prefix="more-")]


def play(scenario: Scenario) -> Trace:
    """Run one world to its end; the collector of cycles is told to stay out of it, for it would come at any moment."""
    gc.disable()
    try:
        return World(scenario).run()
    finally:
        gc.enable()
