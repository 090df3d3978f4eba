"""One world: a store, a host, workers and a matchmaker on one loop; built, run and judged from one seed.

In: a scenario. Out: its trace and its violations. The engine is the real one, put together as the composition root
does, over views of the twins. A world ends once all is at rest after the last fault, or when it should have been.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
from dataclasses import replace

from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.contract.allocation import Port
from allocator.contract.destination import Destination
from allocator.contract.identity import session_id
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Crashed, Event, Surveyed
from allocator.engine.parts import Parts, Policy
from allocator.engine.worker import Worker
from allocator.gate.gate import Limit
from allocator.gate.memory import MemoryGate
from allocator.providers.memory import MemoryProvider
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.provider import Session, SessionState
from tests.simulation.chaos import Havoc
from tests.simulation.checkers.ends import Ends
from tests.simulation.checkers.leftovers import Leftovers
from tests.simulation.checkers.rates import Rates
from tests.simulation.checkers.sessions import DEPLOYMENT, Sessions
from tests.simulation.host_faults import HostDice
from tests.simulation.matchmaker import IMAGE, OTHER_IMAGE, Matchmaker
from tests.simulation.scenario import REGIONS, Scenario
from tests.simulation.store import WatchedStore
from tests.simulation.trace import Trace
from tests.simulation.views import AftermathView, BrokerView, GateView, HostView
from tests.simulation.virtual_loop import VirtualLoop, context_of
from tests.simulation.wire import Wire, WireFaults

PROVIDER = "memory"
FAULT = "no fault of the program"
EPOCH_MS = 1_700_000_000_000
STEPS_MAX = 400_000
LEAVING_SECONDS = 9.0


class Process:
    """One worker process."""

    def __init__(self, name: str, world: World) -> None:
        scenario, trace = world.scenario, world.trace
        self.name = name
        self.running = True
        chance = random.Random(f"{scenario.seed} {name}")
        fences = itertools.count()
        faults = WireFaults(timeout_seconds=scenario.store.timeout_seconds) if world.calm else scenario.store
        self.store_wire = Wire("store", faults, random.Random(f"{scenario.seed} {name} store"), trace)
        self.host_wire = Wire("host", WireFaults(), random.Random(f"{scenario.seed} {name} host"), trace)
        broker = MemoryBroker(
            world.store,
            deployment=DEPLOYMENT,
            lease_ms=round(scenario.lease_seconds * 1000),
            result_ttl_ms=7_200_000,
            fence=lambda: f"{name}-{next(fences)}",
        )
        self.view = BrokerView(broker, self.store_wire, trace)
        aftermath = MemoryAftermath(
            world.store,
            lease_ms=round(scenario.lease_seconds * 1000),
            result_ttl_ms=7_200_000,
            fence=lambda: f"{name}-s{next(fences)}",
        )
        gate = GateView(world.gate, self.store_wire)
        self.lanes = Lanes(
            gate=gate,
            concurrency=scenario.concurrency,
            limits_of=world.limits_of,
            account_of=lambda _name: PROVIDER,
            observe=world.observe,
            chance=chance,
        )
        self.parts = Parts(
            broker=self.view,
            aftermath=AftermathView(aftermath, self.store_wire, trace),
            gate=gate,
            lanes=self.lanes,
            providers={PROVIDER: HostView(world.host, self.host_wire, trace)},
            atlas=lambda region: (Destination(PROVIDER, region),) if region in REGIONS else (),
            policy=world.policy,
            observe=world.observe,
            insist=Insistence(world.observe, chance),
            chance=chance,
        )
        self.worker = Worker(self.parts)

    async def run(self) -> None:
        """Serve until it has left."""
        await self.worker.run()
        self.running = False

    def leave(self) -> None:
        """Ask it to go in good order."""
        self.running = False
        self.worker.drain()


class World:
    """One seed's world."""

    def __init__(self, scenario: Scenario) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.trace = Trace()
        self.calm = False
        self.loop = VirtualLoop(random.Random(f"{seed} loop"))
        self.loop.set_exception_handler(lambda _loop, context: self._fault(context))
        self.store = WatchedStore(lambda: EPOCH_MS + int(self.loop.time() * 1000))
        self.gate = MemoryGate(
            probe_hold_seconds=scenario.call_timeout_seconds + 2.0, chance=random.Random(f"{seed} gate")
        )
        self.dice = HostDice(scenario.host, random.Random(f"{seed} host"), self.trace)
        capacities = (scenario.first_capacity, None, None)
        self.host = MemoryProvider(
            {region: MemoryLocation(capacity) for region, capacity in zip(REGIONS, capacities, strict=True)},
            latency_seconds=self.dice.latency_seconds,
            script=self.dice.start,
            failures=self.dice.failure,
        )
        self.dice.has_ended = self._ended_unnamed
        self.policy = Policy(
            deployment=DEPLOYMENT,
            default_regions=REGIONS,
            request_timeout_seconds=60,
            result_ttl_seconds=7200,
            session_ttl="4h",
            max_gate_wait_seconds=2.0,
            lease_seconds=scenario.lease_seconds,
            concurrency=scenario.concurrency,
            backlog=scenario.backlog,
            backlog_bytes=1 << 20,
            drain_seconds=scenario.drain_seconds,
            call_timeout_seconds={PROVIDER: scenario.call_timeout_seconds},
            port_names={},
        )
        self.matchmaker = Matchmaker(self.store, scenario, random.Random(f"{seed} matchmaker"), self.trace)
        self.processes: list[Process] = []
        self.remains: dict[str, Session] = {}
        self.rates = Rates(self)
        self.sessions = Sessions(self)
        self.ends = Ends(self)
        self.checkers = (self.ends, self.sessions, self.rates, Leftovers(self))
        self.loop.after_step = self._after_step

    def limits_of(self, destination: Destination) -> tuple[Limit, ...]:
        """As the composition root does: the destination's own, then the account's."""
        return (
            Limit(PROVIDER, PROVIDER, destination.location, self.scenario.rate),
            Limit(PROVIDER, PROVIDER, "*", None),
        )

    def observe(self, event: Event) -> None:
        """Listen to the engine."""
        if isinstance(event, Crashed):
            self.trace.violated(f"{FAULT}: {event.where}: {event.error!r}")
        elif not isinstance(event, Surveyed):
            self.trace.say(repr(event))
            self.ends.heard(event)

    def running(self) -> list[Process]:
        """The workers that take requests up."""
        return [process for process in self.processes if process.running]

    def keep_staffed(self) -> None:
        """Start as many workers as are missing."""
        while len(self.running()) < self.scenario.workers:
            process = Process(f"w{len(self.processes)}", self)
            self.processes.append(process)
            self.trace.say(f"BIRTH of {process.name}")
            self.loop.create_task(self._run(process), context=context_of(process.name))

    def kill(self, process: Process) -> None:
        """End it as kill -9 does."""
        self.trace.say(f"DEATH of {process.name}")
        process.running = False
        process.store_wire.dead = process.host_wire.dead = True
        self.loop.kill(process.name)
        self.trace.muted.add(process.name)

    def heal(self) -> None:
        """No fault from here on."""
        self.calm = self.dice.calm = True
        self.store.away = self.store.full = False
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
        self._leave_remains()
        self.keep_staffed()
        havoc = loop.create_task(Havoc(self, random.Random(f"{self.scenario.seed} chaos")).run())
        asking = loop.create_task(self.matchmaker.run())
        await havoc
        await asking
        last_ms = max(asked.deadline_ms for asked in self.matchmaker.asked.values())
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

    def _leave_remains(self) -> None:
        """Sessions that run under the ids of requests which the store, emptied since, knows nothing of."""
        chance = random.Random(f"{self.scenario.seed} remains")
        for number in range(self.scenario.requests):
            if chance.random() >= self.scenario.remains:
                continue
            request_id = f"m-{number}"
            session = Session(
                id=session_id(DEPLOYMENT, request_id, 1),
                host="127.0.0.1",
                ports=(Port("7777/udp", "udp", 7777, 10_000 + number),),
                location=chance.choice(REGIONS),
                image=chance.choice((IMAGE, IMAGE, OTHER_IMAGE)),
                mark=DEPLOYMENT,
            )
            self.host.put(session)
            if chance.random() < 0.3:
                self.host.set_state(session.id, SessionState.ENDED)
            else:
                self.remains[request_id] = session
            self.trace.say(f"REMAINS of {request_id}: {session.id[:8]} runs {session.image}")

    async def _run(self, process: Process) -> None:
        try:
            await process.run()
        except Exception as error:  # noqa: BLE001 - whatever ends a worker is a fault of the program
            self.trace.violated(f"a worker runs on: {process.name}: {error!r}")

    def _ended_unnamed(self, name: str) -> bool:
        entry = self.host.ledger.get(name)
        ended = entry is not None and entry.session.state is SessionState.ENDED
        return ended and name not in self.store.handed_over

    def _after_step(self, process: str) -> None:
        if self.loop.steps > STEPS_MAX:
            self.loop.stop()
        if process == "host":
            self.sessions.after_host_step()

    def _fault(self, context: dict[str, object]) -> None:
        self.trace.violated(f"{FAULT}: {context.get('message')} {context.get('exception')!r}")


def play(scenario: Scenario) -> Trace:
    """Run one world to its end; the collector of cycles is told to stay out of it, for it would come at any moment."""
    gc.disable()
    try:
        return World(scenario).run()
    finally:
        gc.enable()
