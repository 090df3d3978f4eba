"""What goes wrong at the host: one throw of the dice for each start, find and stop.

In: the shares of a scenario. Out: the steps of the in-memory host's script. Once `calm` is set, nothing goes wrong any
more; what was on its way still lands.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping

from allocator.providers.memory import Asked, Failure, LateCreate, LostReply, MemoryProvider, NoAnswer, StartCall, Step
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.provider import (
    Conflict,
    CredentialRefused,
    LookupFailed,
    NoRoom,
    NotFound,
    Offered,
    Rejected,
    StartOutcome,
    StartSpec,
    Unknown,
    Unreachable,
)
from tests.simulation.scenario import HostFaults
from tests.simulation.trace import Trace


class HostDice:
    """The host's script."""

    def __init__(self, faults: HostFaults, chance: random.Random, trace: Trace) -> None:
        self._faults = faults
        self.chance = chance
        self._trace = trace
        self.calm = False
        self.has_ended: Callable[[str], bool] = lambda _name: False
        self.looked_up: set[str] = set()
        """Session ids of which the host has truly said how they are."""
        self.known_ended: set[str] = set()
        """Those of which it has said that they had ended, before they were handed over."""

    def latency_seconds(self) -> float:
        """Quick, and now and then slower than any caller waits."""
        if self._faults.slow and not self.calm and self.chance.random() < 0.2:
            return self.chance.uniform(0.5, 6.0)
        return self.chance.uniform(0.02, 0.2)

    def start(self, call: StartCall) -> Step | None:
        """What becomes of one start; None: it is served."""
        step = None if self.calm else self._draw()
        if step is not None:
            self._trace.say(f"{call.session_id[:8]}: {step}")
        return step

    def failure(self, call: Asked, subject: str) -> Failure | None:
        """What becomes of one look-up or stop."""
        if self.calm or self.chance.random() >= self._faults.look_ups:
            if call == "find":
                self._told(subject)
            return None
        return Failure("the host is not itself", took_effect=call == "stop" and self.chance.random() < 0.5)

    def pooled(self) -> str | None:
        """The id of the session of a warm pool that serves a start; None where it is begun as asked."""
        if not self._faults.other_id or self.calm or self.chance.random() >= self._faults.other_id:
            return None
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def _told(self, name: str) -> None:
        self.looked_up.add(name)
        if self.has_ended(name):
            self.known_ended.add(name)

    def _draw(self) -> Step | None:
        faults, chance = self._faults, self.chance
        steps: list[tuple[float, Step]] = [
            (faults.lost_reply, LostReply()),
            (faults.no_answer, NoAnswer()),
            (faults.late_create, LateCreate(round(chance.random() * faults.late_seconds_max, 3))),
            (faults.twice, LateCreate(0.0, Conflict(409, "in use"))),
            (faults.no_room, NoRoom(chance.choice((420, 429)), chance.choice((None, 1.0, 3.0)), "busy")),
            (faults.unavailable, chance.choice((Unknown(503, "away", closes=True), Unknown(500, "fault")))),
            (faults.unreachable, Unreachable("no way there")),
            (faults.not_found, NotFound(404, "no such image here")),
            (faults.credential, CredentialRefused(401, "who are you")),
            (faults.rejected, Rejected(422, "never")),
        ]
        for share, step in steps:
            if chance.random() < share:
                return step
        return None


class SimulatedHost(MemoryProvider):
    """A host with warm pools: whatever becomes of the reply, a session may begin under an id of the host's own."""

    def __init__(self, locations: Mapping[str, MemoryLocation], dice: HostDice, *, offers_lie: float) -> None:
        super().__init__(locations, latency_seconds=dice.latency_seconds, script=dice.start, failures=dice.failure)
        self._pooled = dice.pooled
        self._dice = dice
        self._offers_lie = offers_lie

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """The locations with room; all of them where the list is no promise."""
        found = await super().offers(image, timeout_seconds=timeout_seconds)
        lies = not self._dice.calm and self._dice.chance.random() < self._offers_lie
        return Offered(None) if isinstance(found, Offered) and lies else found

    def _create(self, session_id: str, location: str, spec: StartSpec) -> StartOutcome:
        return super()._create(self._pooled() or session_id, location, spec)


class Games:
    """Whether the game of a session listens: one in so many never does, until the calm."""

    def __init__(self, unready: float, seed: int) -> None:
        self._unready = unready
        self._seed = seed
        self.calm = False
        self.listening: set[int] = set()
        self.silent: set[int] = set()
        """Ports that have answered, and those that have not in the time they were given."""

    async def answers(self, host: str, port: int, timeout_seconds: float) -> bool:
        """See `ReadyProbe`."""
        chance = random.Random(f"{self._seed} game {host}:{port}")
        never = chance.random() < self._unready and not self.calm
        seconds = chance.uniform(0.01, 1.0)
        listens = not never and seconds < timeout_seconds
        await asyncio.sleep(seconds if listens else timeout_seconds)
        (self.listening if listens else self.silent).add(port)
        return listens
