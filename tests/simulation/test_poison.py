"""A request that ends every worker that processes it: it is buried in the end, and costs nobody else the match."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.host_view import HostView
from tests.simulation.scenario import scenario
from tests.simulation.test_guards import calm
from tests.simulation.virtual_loop import context_of
from tests.simulation.world import World

if TYPE_CHECKING:
    from allocator.providers.provider import StartOutcome
    from tests.simulation.process import Process

POISON = "a-poison"
OTHERS = [f"m-{number}" for number in range(12)]
DEATHS = 6
"""It ended a worker more than five times."""
NEEDS_SECONDS = 0.5
"""So long a worker has to live for a match to be had."""
END_SECONDS = 300.0


class Ward:
    """One worker at a time, which a start for the poison ends after so many seconds, and a successor at once."""

    def __init__(self, lives_seconds: float) -> None:
        self.world = World(replace(calm(scenario(2)), workers=1))
        self.fleet = self.world.fleets[0]
        self.deaths = 0
        self.left: Counter[str | None] = Counter()
        """By request: the servers that run in the end."""
        self._lives_seconds = lives_seconds
        self._real = HostView.start

    async def start(self, view: HostView, session_id: str, location: str, spec: Any, **options: Any) -> StartOutcome:
        """In place of a view's own."""
        if spec.labels["match"] == POISON:
            victim = self.fleet.processes[-1]
            self.world.loop.call_later(self._lives_seconds, self._die, victim, context=context_of("world"))
            await asyncio.sleep(END_SECONDS)
        await asyncio.sleep(NEEDS_SECONDS)
        return await self._real(view, session_id, location, spec, **options)

    def live(self) -> None:
        """Ask for all at once, until all have ended."""
        loop = self.world.loop
        asyncio.set_event_loop(None)
        try:
            loop.run_until_complete(loop.create_task(self._story(), context=context_of("world")))
        finally:
            loop.bury([process.name for process in self.world.processes])
            loop.bury(["world", "store", "host"])
            loop.close()

    async def _story(self) -> None:
        for request_id in (POISON, *OTHERS):
            asked = {"id": request_id, "image": "game", "timeout_seconds": END_SECONDS, "labels": {"match": request_id}}
            self.fleet.store.add(json.dumps(asked).encode())
        self.fleet.keep_staffed()
        for _ in range(round(END_SECONDS)):
            if len(self.fleet.store.results) < 1 + len(OTHERS):
                await asyncio.sleep(1)
        self.left = Counter(session.request_id for session in self.world.host.alive())

    def _die(self, victim: Process) -> None:
        if victim.running:
            self.deaths += 1
            self.world.kill(victim)
            self.fleet.keep_staffed()


@pytest.mark.parametrize("lives_seconds", [0.0, 0.2, 1.0])
def test_a_request_that_ends_each_worker_is_buried_and_those_beside_it_are_served(
    monkeypatch: pytest.MonkeyPatch, lives_seconds: float
) -> None:
    ward = Ward(lives_seconds)

    async def start(view: HostView, *words: Any, **options: Any) -> StartOutcome:
        return await ward.start(view, *words, **options)

    monkeypatch.setattr(HostView, "start", start)
    ward.live()
    assert ward.deaths == DEATHS
    store = ward.fleet.store
    hashed = store.allocation(POISON)
    assert (hashed["state"], hashed["error_code"]) == ("failed", "poisoned")
    (letter,) = store.dead_letters
    assert (letter.code, letter.request_id) == ("poisoned", POISON)
    assert letter.entry.raw is not None
    assert json.loads(letter.entry.raw)["id"] == POISON
    assert {store.allocation(each)["state"] for each in OTHERS} == {"allocated"}
    assert ward.left == Counter(OTHERS)
