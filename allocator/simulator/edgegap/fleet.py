"""What the simulated vendor does with deployments, without HTTP: makes, finds and stops them, and lets time pass.

In: calls already read and authorised, the fate that the dice cast, settings, a clock. Out: values of the unions below,
and `told` for every webhook that is due. It promises that a deployment's id and place are taken the moment it is made;
that each state is entered at the moment it was due, in order; and that whatever falls due with time has happened
before the next call sees anything. Faults of answers, latency and shapes are others' (`front`, `shapes`).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from allocator.simulator.addresses import Addresses
from allocator.simulator.clock import Clock
from allocator.simulator.dice import Dice, Fate
from allocator.simulator.edgegap.catalog import Catalog, Deployable
from allocator.simulator.edgegap.deploy_body import Asked
from allocator.simulator.edgegap.deployment import HELD, PENDING, Deployment, Event, PortMapping, StartedBy, State
from allocator.simulator.edgegap.faults import Doubled, Failed, NeverReady, SlowStart, Unplaced
from allocator.simulator.edgegap.ledger import Ledger
from allocator.simulator.edgegap.placement import nearest
from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.settings import SimulatorSettings

PORT_MIN, PORT_MAX = 30_000, 32_767
_STAGES = ((State.SEEKING, 0.05), (State.SEEKED, 0.15), (State.SCANNING, 0.2), (State.DEPLOYING, 0.3))
"""When each state is entered, as a part of the time from the POST to READY."""
_DAY_MINUTES = 1440


@dataclass(frozen=True, slots=True)
class NoPlace:
    """A 422: nowhere to deploy to; `deployment` is what it left in ERROR, if it left anything."""

    request_id: str
    deployment: Deployment | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stop that was taken; `deferred` where the deployment is not READY or ERROR yet."""

    deployment: Deployment
    deferred: bool


@dataclass(frozen=True, slots=True)
class _Start:
    """How long a start takes, and how it ends."""

    seconds: float
    end: State = State.READY
    detail: str | None = None


class Fleet:
    """The deployments of one simulated account, at all its locations."""

    def __init__(
        self,
        settings: SimulatorSettings,
        clock: Clock,
        *,
        told: Callable[[Deployment, Event], None] = lambda _deployment, _event: None,
        scheduled: Callable[[], None] = lambda: None,
    ) -> None:
        self.ledger = Ledger()
        self.catalog = Catalog(clock)
        self._clock = clock
        self._told = told
        self._scheduled = scheduled
        self._addresses: dict[str, Addresses] = {}
        self._held: Counter[str] = Counter()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._random = random.Random(f"{settings.seed}:fleet")  # noqa: S311 - a simulation, repeatable by its seed
        self.apply(settings)

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; deployments and the catalogue stay, what it lacks of theirs is added."""
        for name in settings.locations:
            self._addresses.setdefault(name, Addresses(len(self._addresses), PORT_MIN, PORT_MAX))
        self.settings = settings
        self.catalog.apply(settings)
        self.dice = Dice(settings.faults, settings.seed)

    def settle(self) -> None:
        """Let happen what has fallen due."""
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, happen = heapq.heappop(self._due)
            happen(due)

    def drawn(self, span: tuple[float, float]) -> float:
        """A number out of a range."""
        return self._random.uniform(*span)

    def next_due_seconds(self) -> float | None:
        """The moment at which something falls due; None while nothing will."""
        return self._due[0][0] if self._due else None

    def where(self, asked: Asked) -> str:
        """The location nearest to the players, whether or not it has room."""
        return nearest(asked.players, self.settings.locations, 0.0)[0]

    def deploy(self, asked: Asked, fate: Fate) -> Deployment | NoPlace | Refused:
        """Make a deployment of one POST, or two where that is its fate."""
        self.settle()
        version = self._version(asked)
        if isinstance(version, Refused):
            return version
        now = self._clock.monotonic()
        location = None if fate.struck_by(Unplaced) is not None else self._room(asked)
        if location is None:
            return self._refuse(asked, version, now)
        start = self._start_of(location, fate)
        if fate.struck_by(Doubled) is not None:
            self._create(asked, version, location, now, start=start, by="doubled")
        return self._create(asked, version, location, now, start=start, by="post")

    def deploy_late(self, asked: Asked, fate: Fate, after_seconds: float) -> None:
        """Take a POST, if it may be; its deployment appears so many seconds later, and nothing is seen of it before."""
        version = self._version(asked)
        if isinstance(version, Refused):
            return

        def land(at: float) -> None:
            location = self._room(asked)
            if location is not None:
                self._create(asked, version, location, at, start=self._start_of(location, fate), by="late")

        self._schedule(self._clock.monotonic() + after_seconds, land)

    def find(self, request_id: str) -> Deployment | Refused:
        """The deployment of this id, terminated or not."""
        self.settle()
        found = self.ledger.find(request_id)
        return found or Refused(self.settings.unknown_status, f"Deployment with request id {request_id} not found")

    def active(self) -> Iterable[Deployment]:
        """Those that have not terminated and that the list shows already, oldest first."""
        self.settle()
        shown_until = self._clock.monotonic() - self.settings.listed_after_seconds
        return (each for each in self.ledger.active() if each.created_at_seconds <= shown_until)

    def stop(self, request_id: str) -> Stopped | Refused:
        """Stop a deployment: at once if it is READY or ERROR, else when it gets there."""
        self.settle()
        deployment = self.ledger.find(request_id)
        if deployment is None:
            return Refused(404, f"Deployment with request id {request_id} not found")
        if deployment.state is State.TERMINATED:
            return Refused(410, "Instance already terminated")
        now = self._clock.monotonic()
        if deployment.stop_asked_at_ms is None:
            deployment.stop_asked_at_ms = self._wall_ms(now)
        deferred = deployment.state in PENDING
        if deployment.state in {State.READY, State.ERROR}:
            self._terminate(deployment, "stopped", now)
        return Stopped(deployment, deferred)

    def set_state(self, request_id: str, state: State, detail: str | None = None) -> Deployment | Refused:
        """Put a deployment into any state, as its server or its host might."""
        found = self.find(request_id)
        if isinstance(found, Deployment):
            found.error_detail = (detail or "set") if state is State.ERROR else None
            now = self._clock.monotonic()
            if state is State.TERMINATED:
                self._end(found, "set", now)
            elif state is State.TERMINATING:
                self._terminate(found, "set", now)
            else:
                self._enter(found, state, now)
        return found

    def _version(self, asked: Asked) -> Deployable | Refused:
        return self.catalog.deployable(asked.application, asked.version)

    def _room(self, asked: Asked) -> str | None:
        """The best location that has room."""
        locations = self.settings.locations
        for name in nearest(asked.players, locations, self.settings.spill_km):
            capacity = locations[name].capacity
            if capacity is None or self._held[name] < capacity:
                return name
        return None

    def _start_of(self, location: str, fate: Fate) -> _Start:
        place = self.settings.locations.get(location)
        seconds = self.drawn((place and place.start_seconds) or self.settings.start_seconds)
        if (slow := fate.struck_by(SlowStart)) is not None:
            seconds = self.drawn(slow.seconds)
        if (never := fate.struck_by(NeverReady)) is not None:
            return _Start(never.seconds, State.ERROR, "Deployment took too long to be ready")
        if (failed := fate.struck_by(Failed)) is not None:
            return _Start(seconds, State.ERROR, failed.detail)
        return _Start(seconds)

    def _refuse(self, asked: Asked, version: Deployable, now: float) -> NoPlace:
        """Find no place: the vendor leaves a deployment in ERROR, or nothing but the id of one."""
        if not self.settings.refused_is_kept:
            return NoPlace(self._request_id(), None)
        left = self._create(asked, version, None, now, start=None, by="post")
        left.error_detail = "Could not allocate an Edge Server for the deployment"
        self._enter(left, State.ERROR, now)
        return NoPlace(left.request_id, left)

    def _create(
        self,
        asked: Asked,
        version: Deployable,
        location: str | None,
        at: float,
        *,
        start: _Start | None,
        by: StartedBy,
    ) -> Deployment:
        host, first = "", 0
        if location is not None:
            place = self.settings.locations.get(location)
            host, first = self._addresses[location].take(len(version.ports), place.host if place else None)
        deployment = Deployment(
            request_id=self._request_id(),
            application=asked.application,
            version=asked.version,
            tags=asked.tags,
            users=len(asked.players),
            env=asked.env,
            webhooks=asked.webhooks,
            location=location,
            host=host,
            ports=tuple(
                PortMapping(port.name, port.port or first + place, first + place, port.protocol, port.tls_upgrade)
                for place, port in enumerate(version.ports)
            )
            if location is not None
            else (),
            max_duration_minutes=version.max_duration_minutes,
            started_by=by,
            created_at_ms=self._wall_ms(at),
            created_at_seconds=at,
            ready_due_seconds=at + (start.seconds if start is not None else 0.0),
        )
        self.ledger.add_deployment(deployment)
        if location is not None:
            self._held[location] += 1
        if start is not None:
            self._step(deployment, start, at, 0)
        return deployment

    def _step(self, deployment: Deployment, start: _Start, begun: float, stage: int) -> None:
        """Plan the next state of a start."""
        state, part = _STAGES[stage] if stage < len(_STAGES) else (start.end, 1.0)
        before = deployment.state

        def happen(at: float) -> None:
            if deployment.state is not before:
                return  # put into another state meanwhile, by hand
            if state is State.ERROR:
                deployment.error_detail = start.detail
            self._enter(deployment, state, at)
            if stage < len(_STAGES):
                self._step(deployment, start, begun, stage + 1)

        self._schedule(begun + part * start.seconds, happen)

    def _enter(self, deployment: Deployment, state: State, at: float) -> None:
        if deployment.location is not None:
            self._held[deployment.location] += (state in HELD) - (deployment.state in HELD)
        deployment.last_state, deployment.state = deployment.state, state
        if state is State.READY:
            deployment.ready_at_ms, deployment.ready_at_seconds = self._wall_ms(at), at
            self._told(deployment, Event.READY)
            minutes = deployment.max_duration_minutes if deployment.max_duration_minutes > 0 else _DAY_MINUTES
            self._schedule(at + minutes * 60, lambda due: self._outlived(deployment, State.READY, "max_duration", due))
        elif state is State.ERROR:
            self._told(deployment, Event.ERROR)
            kept = at + self.settings.error_kept_seconds
            self._schedule(kept, lambda due: self._outlived(deployment, State.ERROR, "removed", due))
        if state in {State.READY, State.ERROR} and deployment.stop_asked_at_ms is not None:
            self._terminate(deployment, "stopped", at)

    def _outlived(self, deployment: Deployment, state: State, why: str, at: float) -> None:
        if deployment.state is state:
            self._terminate(deployment, why, at)

    def _terminate(self, deployment: Deployment, why: str, at: float) -> None:
        self._enter(deployment, State.TERMINATING, at)
        self._schedule(at + self.settings.stop_seconds, lambda due: self._end(deployment, why, due))

    def _end(self, deployment: Deployment, why: str, at: float) -> None:
        if deployment.state is not State.TERMINATED:
            self._enter(deployment, State.TERMINATED, at)
            deployment.terminated_at_ms, deployment.ended_why = self._wall_ms(at), why
            self.ledger.end(deployment)
            self._told(deployment, Event.TERMINATED)

    def _request_id(self) -> str:
        return f"{self._random.getrandbits(48):012x}"

    def _schedule(self, due: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (due, next(self._order), happen))
        if self._due[0][0] == due:
            self._scheduled()

    def _wall_ms(self, at: float) -> int:
        """Unix milliseconds of a moment of the monotonic clock."""
        return int((self._clock.wall() - (self._clock.monotonic() - at)) * 1000)
