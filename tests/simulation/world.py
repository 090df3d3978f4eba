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
from allocator.providers.provider import SessionState
from tests.simulation.chaos import Havoc
from tests.simulation.checkers.checker import Checker
from tests.simulation.checkers.rates import Rates
from tests.simulation.checkers.repeats import Repeats
from tests.simulation.fleet import FAULT, FIRST, Fleet
from tests.simulation.host_faults import Games, HostDice, SimulatedHost
from tests.simulation.process import EPOCH_MS, Process
from tests.simulation.scenario import Neighbour, Scenario
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.waits import locations
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
        room = locations(scenario.waits, scenario.first_capacity)
        self.host = SimulatedHost(room, self.dice, offers_lie=scenario.waits.offers_lie)
        self.games = Games(scenario.waits.unready, seed)
        self.dice.has_ended = self._ended_unnamed
        self.repeats = Repeats(self)
        self.rates = Rates(self)
        self.fleets = _fleets(self, scenario)
        self.checkers: tuple[Checker, ...] = (
            *(checker for fleet in self.fleets for checker in fleet.checkers),
            self.rates,
        )
        self.loop.after_step = self._after_step

    @property
    def processes(self) -> list[Process]:
        """Every process that ever was."""
        return [process for fleet in self.fleets for process in fleet.processes]

    @property
    def healed_at(self) -> float:
        """When the last fault was over: one may be a step that a worker gave up and that has landed in the calm."""
        landings = (at for process in self.processes for at in process.store_wire.landings if at <= self.loop.time())
        return max(self.scenario.faults_seconds, *landings, 0.0)

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
        self.calm = self.dice.calm = self.games.calm = True
        self.host.locations.update(locations(self.scenario.waits, self.scenario.first_capacity, calm=True))
        for fleet in self.fleets:
            fleet.store.away = fleet.store.full = False
        for process in self.processes:
            process.store_wire.faults = replace(WireFaults(), timeout_seconds=self.scenario.store.timeout_seconds)
            process.store_wire.cut = process.host_wire.cut = False
            process.view.skew_ms = 0
            self.loop.resume(process.name)
            process.levers.wakes()
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
        moving = [loop.create_task(fleet.operator.run()) for fleet in self.fleets]
        await havoc
        for fleet, each in zip(self.fleets, moving, strict=True):
            each.cancel()
            await fleet.operator.undo()
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

    def is_silent(self, name: str, request_id: str) -> bool:
        """Whether a session's game was asked and did not answer, or that of one that a pool may have given for it."""
        ledger = self.host.ledger
        pooled = self.scenario.host.other_id
        names = [each for each, entry in ledger.items() if pooled and entry.spec.labels.get("match") == request_id]
        return any(ledger[each].session.ports[0].port in self.games.silent for each in [name, *names] if each in ledger)

    def has_listened(self, name: str) -> bool:
        """Whether its game has answered."""
        return self.host.ledger[name].session.ports[0].port in self.games.listening

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
            self.rates.after_host_step()

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
