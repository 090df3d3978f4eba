"""The soak itself: two workers, a provider with faults, a matchmaker, and deaths by the clock.

In: how long, how fast, where. Out: samples, and sentences for each promise that was broken. One worker lives through
all of it (what leaks shows there), the other is killed every minute and replaced; Redis is killed every few minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from allocator.contract.request import Priority
from tests.conftest import TestServer
from tests.crash.fleet import ALIVE, Fleet, Process, Simulator
from tests.soak.matchmaker import Matchmaker
from tests.soak.samples import Sample, of_process
from tests.soak.verdict import account, long_doubles, stopped_in_play

DEPLOYMENT = "soak"
LEASE_SECONDS = 5.0
TIMEOUT_SECONDS = 30.0
PLAY_SECONDS = 20.0
REDIS_AWAY_SECONDS = 2.0
LATE_SECONDS = 1.5
END_SECONDS = 90.0
CALM_SECONDS = 60.0
KEPT = ("result_ttl_seconds=60", "results_max_age_seconds=60", "session_ttl=5m")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard."""

    seconds: float
    rate: float = 40.0
    worker_every_seconds: float = 60.0
    redis_every_seconds: float = 300.0
    sample_every_seconds: float = 10.0
    play_seconds: float = PLAY_SECONDS
    seed: int = 0

    @property
    def simulator(self) -> dict[str, Any]:
        """A provider whose first region is too slow for its share, whose third is full, and which loses answers."""
        latency = {"latency_ms": "150-350"}
        return {
            "seed": self.seed,
            "regions": {
                "europe": {**latency, "starts_per_second": max(1.0, self.rate * 0.4), "burst": 2},
                "us-east": latency,
                "asia": {**latency, "closed": 420},
            },
            "faults": [
                {"kind": "lost_reply", "probability": 0.05},
                {"kind": "late", "probability": 0.02, "after_seconds": LATE_SECONDS},
            ],
        }


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    workers_killed: int = 0
    redis_killed: int = 0


class Soak:
    """One run."""

    def __init__(
        self, plan: Plan, fleet: Fleet, simulator: Simulator, server: TestServer, say: Callable[[str], None]
    ) -> None:
        self.outcome = Outcome()
        self._plan = plan
        self._fleet = fleet
        self._simulator = simulator
        self._server = server
        self._say = say
        self._since = time.monotonic()
        self._matchmaker = Matchmaker(
            fleet, rate=plan.rate, play_seconds=plan.play_seconds, timeout_seconds=TIMEOUT_SECONDS, seed=plan.seed
        )
        self._veteran: Process | None = None
        self._mortal: Process | None = None

    async def run(self) -> Outcome:
        """Start, ask, kill and measure for the time of the plan; then let all end, and judge."""
        self._veteran = await self._fleet.worker()
        self._mortal = await self._fleet.worker()
        self._since = time.monotonic()
        end = self._since + self._plan.seconds
        beside = [
            asyncio.create_task(each)
            for each in (self._matchmaker.listen(), self._matchmaker.release(), self._measure_always())
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._matchmaker.ask(end))
                group.create_task(self._every(self._plan.worker_every_seconds, end, self._kill_worker))
                group.create_task(self._every(self._plan.redis_every_seconds, end, self._kill_redis))
            await self._until("every match has its end", lambda: self._matchmaker.open == 0)
            self._matchmaker.end_play()
            await self._until("every server is released", lambda: self._matchmaker.in_play == 0)
            await self._calm()
            await self._judge()
        finally:
            await _ended(beside)
        return self.outcome

    async def _every(self, seconds: float, end: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        due = self._since + seconds
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await act()
            due += seconds

    async def _measure_always(self) -> None:
        due = self._since
        while True:
            due += self._plan.sample_every_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if due - self._since <= self._plan.seconds:  # what comes after is the end, with less and less to do
                await self._measure()

    async def _kill_worker(self) -> None:
        assert self._mortal is not None
        await self._mortal.kill()
        self._mortal = await self._fleet.worker(wait=False)
        self.outcome.workers_killed += 1

    async def _kill_redis(self) -> None:
        self._server.kill()
        await asyncio.sleep(REDIS_AWAY_SECONDS)
        await asyncio.to_thread(self._server.start)
        self.outcome.redis_killed += 1

    async def _measure(self) -> None:
        values: dict[str, float] = {}
        for name, process in (("veteran", self._veteran), ("replaced", self._mortal)):
            if process is not None and process.running:
                values |= of_process(name, process.id)
        try:
            info: dict[str, Any] = await self._fleet.redis.info()
            values["keys"] = float(info["db0"]["keys"])
            values["keys without a lifetime"] = values["keys"] - info["db0"]["expires"]
            values["redis used MB"] = info["used_memory"] / 2**20
        except (RedisError, KeyError):
            pass  # it has just been killed: the next sample has it again
        at_seconds = time.monotonic() - self._since
        self.outcome.samples.append(Sample(at_seconds, values))
        told = "  ".join(f"{name} {value:.1f}" for name, value in values.items())
        asked, in_play = len(self._matchmaker.matches), self._matchmaker.in_play
        self._say(f"{at_seconds:6.0f} s  asked {asked}  in play {in_play}  {told}")

    async def _until(self, what: str, reached: Callable[[], bool]) -> None:
        since = time.monotonic()
        while time.monotonic() < since + END_SECONDS:
            if reached():
                self._say(f"{what}, {time.monotonic() - since:.1f} s after")
                return
            await asyncio.sleep(0.2)
        self._say(f"not so after {END_SECONDS:g} s: {what}")

    async def _calm(self) -> None:
        """Wait until the provider has nothing running for a while, at most so long: what is left then is left over."""
        deadline = time.monotonic() + CALM_SECONDS
        quiet_since: float | None = None
        while time.monotonic() < deadline:
            by_status = (await self._simulator.counts())["sessions_by_status"].values()
            alive = sum(count for counts in by_status for status, count in counts.items() if status in ALIVE)
            now = time.monotonic()
            quiet_since = None if alive else quiet_since or now
            if quiet_since is not None and now - quiet_since > 2 * LATE_SECONDS:
                return
            await asyncio.sleep(0.5)

    async def _judge(self) -> None:
        keys = self._fleet.keys
        waiting = await self._fleet.redis.zcard(keys.leases)
        for priority in Priority:
            waiting += await self._fleet.redis.xlen(keys.requests(priority))
        sessions = await self._simulator.sessions()
        book = account(DEPLOYMENT, self._matchmaker, sessions, waiting)
        faults = book.faults()
        matches = self._matchmaker.matches
        for said, names in (
            ("stopped while in play", stopped_in_play(matches, sessions)),
            ("with two servers for long", long_doubles(sessions, time.time() * 1000)),
        ):
            if names:
                faults.append(f"{len(names)} {said}: {names[:5]}")
        if self._veteran is not None and not self._veteran.running:
            faults.append(f"the worker that nobody killed ended: {self._veteran.tail()}")
        self.outcome.states = dict(book.states)
        self.outcome.faults = faults


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a library may swallow a cancellation."""
    pending = tasks
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)


async def soak(plan: Plan, directory: Path, server: TestServer, say: Callable[[str], None]) -> Outcome:
    """Run one soak with everything in this directory, on a server that is running."""
    async with (
        Simulator.running(directory, plan.simulator) as simulator,
        Fleet(DEPLOYMENT, directory, server.url, simulator.url, lease_seconds=LEASE_SECONDS, settings=KEPT) as fleet,
    ):
        return await Soak(plan, fleet, simulator, server, say).run()
