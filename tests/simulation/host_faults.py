"""What goes wrong at the host: one throw of the dice for each start, find and stop.

In: the shares of a scenario. Out: the steps of the in-memory host's script. Once `calm` is set, nothing goes wrong any
more; what was on its way still lands.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping

from allocator.providers.memory import Asked, Failure, LateCreate, LostReply, MemoryProvider, NoAnswer, StartCall, Step
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.provider import (
    Conflict,
    CredentialRefused,
    NoRoom,
    NotFound,
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
        self._chance = chance
        self._trace = trace
        self.calm = False
        self.has_ended: Callable[[str], bool] = lambda _name: False
        self.looked_up: set[str] = set()
        """Session ids of which the host has truly said how they are."""
        self.known_ended: set[str] = set()
        """Those of which it has said that they had ended, before they were handed over."""

    def latency_seconds(self) -> float:
        """Quick, and now and then slower than any caller waits."""
        if self._faults.slow and not self.calm and self._chance.random() < 0.2:
            return self._chance.uniform(0.5, 6.0)
        return self._chance.uniform(0.02, 0.2)

    def start(self, call: StartCall) -> Step | None:
        """What becomes of one start; None: it is served."""
        step = None if self.calm else self._draw()
        if step is not None:
            self._trace.say(f"{call.session_id[:8]}: {step}")
        return step

    def failure(self, call: Asked, subject: str) -> Failure | None:
        """What becomes of one look-up or stop."""
        if self.calm or self._chance.random() >= self._faults.look_ups:
            if call == "find":
                self._told(subject)
            return None
        return Failure("the host is not itself", took_effect=call == "stop" and self._chance.random() < 0.5)

    def pooled(self) -> str | None:
        """The id of the session of a warm pool that serves a start; None where it is begun as asked."""
        if not self._faults.other_id or self.calm or self._chance.random() >= self._faults.other_id:
            return None
        return str(uuid.UUID(int=self._chance.getrandbits(128)))

    def _told(self, name: str) -> None:
        self.looked_up.add(name)
        if self.has_ended(name):
            self.known_ended.add(name)

    def _draw(self) -> Step | None:
        faults, chance = self._faults, self._chance
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

    def __init__(self, locations: Mapping[str, MemoryLocation], dice: HostDice) -> None:
        super().__init__(locations, latency_seconds=dice.latency_seconds, script=dice.start, failures=dice.failure)
        self._pooled = dice.pooled

    def _create(self, session_id: str, location: str, spec: StartSpec) -> StartOutcome:
        return super()._create(self._pooled() or session_id, location, spec)
