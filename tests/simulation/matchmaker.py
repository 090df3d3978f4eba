"""The matchmaker: asks for matches, sends some of them again, and some ids once more with another body.

In: a scenario. Out: entries in the store's streams, and what was asked, for the checkers: id, deadline by the store's
clock, whether it must be served.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass

from allocator.contract.request import Priority
from tests.simulation.scenario import REGIONS, Scenario
from tests.simulation.store import WatchedStore
from tests.simulation.trace import Trace

IMAGE = "game"
OTHER_IMAGE = "other-game"


@dataclass(slots=True)
class Asked:
    """One id."""

    request_id: str
    body: bytes
    first_ms: int
    deadline_ms: int
    calm: bool
    conflicted: bool = False


class Matchmaker:
    """One sender of requests."""

    def __init__(
        self, store: WatchedStore, scenario: Scenario, chance: random.Random, trace: Trace, *, prefix: str
    ) -> None:
        """Every id that it asks for begins with `prefix`."""
        self._prefix = prefix
        self._store = store
        self._scenario = scenario
        self._chance = chance
        self._trace = trace
        self.asked: dict[str, Asked] = {}
        self.cancelled: set[str] = set()
        self.done = False

    @property
    def ids(self) -> list[str]:
        """Every id that it asks for, sooner or later."""
        return [self.id_of(number) for number in range(self._scenario.requests)] + [
            f"{self._prefix}calm-{number}" for number in range(self._scenario.calm_requests)
        ]

    def id_of(self, number: int) -> str:
        """The id that it asks for so many others later."""
        return f"{self._prefix}m-{number}"

    async def run(self) -> None:
        """Ask until shortly after the last fault."""
        scenario, chance = self._scenario, self._chance
        moments = sorted(chance.uniform(0, scenario.faults_seconds * 0.9) for _ in range(scenario.requests))
        loop = asyncio.get_running_loop()
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, moment - loop.time()))
            self._ask(self.id_of(number), chance.choice(scenario.waits.timeouts_seconds), calm=False)
            if chance.random() < scenario.resends:
                self._again(chance.choice(list(self.asked.values())))
            if chance.random() < scenario.cancels:
                any_id = self.id_of(
                    chance.randrange(scenario.requests)
                )  # now and then one that nobody has asked for yet
                loop.call_later(chance.uniform(0.0, 2.0), self._cancel, any_id)
            if chance.random() < scenario.other_bodies:
                self._other_body(chance.choice(list(self.asked.values())))
        await asyncio.sleep(max(0.0, scenario.faults_seconds + 1.0 - loop.time()))
        for number in range(scenario.calm_requests):
            self._ask(f"{self._prefix}calm-{number}", scenario.waits.calm_timeout_seconds, calm=True)
        again = list(self.asked.values()) if self._store.losses else list(self.asked.values())[:3]
        for asked in again:
            if not asked.calm:
                self._again(asked)
        if self._store.losses:
            for request_id in sorted(self.cancelled):
                self._cancel(request_id)
        self.done = True

    def _ask(self, request_id: str, timeout_seconds: float, *, calm: bool) -> None:
        chance = self._chance
        regions = list(REGIONS) if calm else chance.sample(REGIONS, chance.randint(1, len(REGIONS)))
        body = {
            "id": request_id,
            "image": IMAGE,
            "regions": regions,
            "timeout_seconds": timeout_seconds,
            "labels": {"match": request_id},
        }
        if chance.random() < 0.3:
            body["reply_to"] = "mm-1"
        if not calm and self._scenario.waits.players and chance.random() < self._scenario.waits.players:
            body |= self._players()
        raw = json.dumps(body).encode()
        now_ms = self._store.now_ms()
        deadline_ms = now_ms + round(timeout_seconds * 1000)
        self.asked[request_id] = Asked(request_id, raw, now_ms, deadline_ms, calm)
        self._add(raw, f"ASK {request_id} within {timeout_seconds:g} s at {', '.join(regions)}")

    def _players(self) -> dict[str, object]:
        """Two players' latencies, and caps that loosen; now and then one never does."""
        chance = self._chance
        players = [{"latency_ms": {region: chance.randint(10, 200) for region in REGIONS}} for _ in range(2)]
        caps = [{"max_ms": 60}, {"max_ms": 150, "after_seconds": chance.choice((0.5, 2.0))}]
        if chance.random() < 0.8:
            caps.append({"max_ms": 1000, "after_seconds": chance.choice((3.0, 6.0))})
        return {"players": players, "latency_caps": caps}

    def _again(self, asked: Asked) -> None:
        # whichever entry is taken up first owns the request, so its deadline may count from the later one
        timeout_ms = json.loads(asked.body)["timeout_seconds"] * 1000
        asked.deadline_ms = max(asked.deadline_ms, self._store.now_ms() + round(timeout_ms))
        self._add(asked.body, f"ASK {asked.request_id} again")

    def _other_body(self, asked: Asked) -> None:
        asked.conflicted = True
        body = json.loads(asked.body)
        body["image"] = OTHER_IMAGE
        asked.deadline_ms = max(asked.deadline_ms, self._store.now_ms() + round(body["timeout_seconds"] * 1000))
        self._add(json.dumps(body).encode(), f"ASK {asked.request_id} with another body")

    def _cancel(self, request_id: str) -> None:
        self.cancelled.add(request_id)
        self._store.order(request_id)
        self._trace.say(f"CANCEL {request_id}")

    def _add(self, raw: bytes, what: str) -> None:
        priority = self._chance.choice(list(Priority))
        self._trace.say(f"{what} ({priority.value}) as {self._store.add(raw, priority)}")
