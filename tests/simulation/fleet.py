"""The workers, the matchmaker and the store of one namespace, and what is promised of them.

In: a world, and whose namespace it is. Out: processes on the world's loop, what they tell, and its checkers. Several
fleets may share a host's account and a gate; each has its own records.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from allocator.contract.allocation import Port
from allocator.contract.identity import session_id
from allocator.engine.observer import Crashed, Event, Surveyed
from allocator.engine.parts import Policy
from allocator.engine.readiness import ReadyCheck
from allocator.providers.provider import Session, SessionState
from tests.simulation.checkers.checker import Checker
from tests.simulation.checkers.ends import Ends
from tests.simulation.checkers.leftovers import Leftovers
from tests.simulation.checkers.losses import Losses
from tests.simulation.checkers.lots import Lots
from tests.simulation.checkers.orphans import Orphans
from tests.simulation.checkers.sessions import Sessions
from tests.simulation.levers import PROVIDER, LeverLog, Operator
from tests.simulation.matchmaker import IMAGE, OTHER_IMAGE, Matchmaker
from tests.simulation.process import EPOCH_MS, Process
from tests.simulation.scenario import REGIONS, Scenario
from tests.simulation.store import WatchedStore
from tests.simulation.virtual_loop import context_of

if TYPE_CHECKING:
    from tests.simulation.world import World

FAULT = "no fault of the program"
FIRST = "w"
READY_CHECK = ReadyCheck("udp", 7777, 3.0)  # type: ignore[arg-type]  # the one port that the twin publishes
LONG_AGO_MS = -3_600_000
"""Before the world began."""


class Fleet:
    """One namespace of one deployment; `prefix` begins its requests' ids, `name` those of its processes."""

    def __init__(
        self, world: World, scenario: Scenario, *, name: str, deployment: str, namespace: str, prefix: str = ""
    ) -> None:
        self.world = world
        self.scenario = scenario
        self.name = name
        self.deployment = deployment
        self.namespace = namespace
        self.store = WatchedStore(lambda: self.now_ms(world.loop.time()))
        self.policy = _policy(scenario, deployment, namespace)
        self._seed = f"{scenario.seed}" if name == FIRST else f"{scenario.seed} {name}"
        chance = random.Random(f"{self._seed} matchmaker")
        self.matchmaker = Matchmaker(self.store, scenario, chance, world.trace, prefix=prefix)
        self.lever_log = LeverLog(self)
        self.operator = Operator(self, random.Random(f"{self._seed} operator"))
        self.processes: list[Process] = []
        self.remains: dict[str, Session] = {}
        self.strangers: list[Session] = []
        self.hearers: dict[str, Process] = {}
        """By session id: who was told by the host that it began, and has recorded the attempt."""
        self.sessions = Sessions(self)
        self.ends = Ends(self)
        self.lots = Lots(self)
        self.losses = Losses(self)
        self.checkers: tuple[Checker, ...] = (
            self.ends,
            self.sessions,
            self.losses,
            Leftovers(self),
            Orphans(self),
        )

    def now_ms(self, seconds: float) -> int:
        """Unix milliseconds, by the loop's clock."""
        return EPOCH_MS + int(seconds * 1000)

    def owns(self, name: str) -> bool:
        """Whether a session is this fleet's: by its mark where it was ever begun, else by its id."""
        entry = self.world.host.ledger.get(name)
        if entry is None:
            return self.sessions.names(name)
        return (entry.session.mark, entry.session.namespace) == (self.deployment, self.namespace)

    def heard_of(self, name: str, process: Process) -> None:
        """A process knows that this session serves, and is about to record it."""
        self.hearers[name] = process

    def observe(self, event: Event) -> None:
        """Listen to the engine."""
        if isinstance(event, Crashed):
            self.world.trace.violated(f"{FAULT}: {event.where}: {event.error!r}")
        elif not isinstance(event, Surveyed):
            self.world.trace.say(repr(event))
            self.ends.heard(event)
            self.losses.heard(event)

    def running(self) -> list[Process]:
        """The workers that take requests up."""
        return [process for process in self.processes if process.running]

    def keep_staffed(self) -> None:
        """Start as many workers as are missing."""
        world = self.world
        while len(self.running()) < self.scenario.workers:
            process = Process(f"{self.name}{len(self.processes)}", self)
            self.processes.append(process)
            world.trace.say(f"BIRTH of {process.name}")
            world.loop.create_task(self._run(process), context=context_of(process.name))

    def leave_remains(self) -> None:
        """Sessions that run under the ids of requests which the store, emptied since, knows nothing of."""
        chance = random.Random(f"{self._seed} remains")
        for number in range(self.scenario.requests):
            if chance.random() >= self.scenario.remains:
                continue
            request_id = self.matchmaker.id_of(number)
            session = Session(
                id=session_id(self.deployment, request_id, 1),
                host="127.0.0.1",
                ports=(Port("7777/udp", "udp", 7777, 10_000 + number),),
                location=chance.choice(REGIONS),
                image=chance.choice((IMAGE, IMAGE, OTHER_IMAGE)),
                mark=self.deployment,
                request_id=request_id,
                namespace=self.namespace,
                created_at_ms=LONG_AGO_MS,
            )
            self.world.host.put(session)
            if chance.random() < 0.3:
                self.world.host.set_state(session.id, SessionState.ENDED)
            else:
                self.remains[request_id] = session
            self.world.trace.say(f"REMAINS of {request_id}: {session.id[:8]} runs {session.image}")

    def leave_strangers(self) -> None:
        """Sessions in play that bear our mark, of requests that nobody will ever ask for again."""
        for number in range(self.scenario.strangers):
            request_id = f"gone-{self.name}-{number}"
            session = Session(
                id=session_id(self.deployment, request_id, 1),
                host="127.0.0.1",
                ports=(Port("7777/udp", "udp", 7777, 9_000 + number),),
                location=REGIONS[-1],
                image=IMAGE,
                mark=self.deployment,
                request_id=request_id,
                namespace=self.namespace,
                created_at_ms=LONG_AGO_MS,
            )
            self.world.host.put(session)
            self.strangers.append(session)
            self.world.trace.say(f"STRANGER {session.id[:8]} of {request_id}")

    async def _run(self, process: Process) -> None:
        try:
            await process.run()
        except Exception as error:  # noqa: BLE001 - whatever ends a worker is a fault of the program
            self.world.trace.violated(f"a worker runs on: {process.name}: {error!r}")


def _policy(scenario: Scenario, deployment: str, namespace: str) -> Policy:
    return Policy(
        deployment=deployment,
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
        namespace=namespace,
        ready_checks={IMAGE: READY_CHECK, OTHER_IMAGE: READY_CHECK} if scenario.waits.ready_check else {},
    )
