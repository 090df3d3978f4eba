"""A fleet behind two wires that can be spoilt, one to Redis and one to the provider; the test looks past both."""

from __future__ import annotations

import asyncio

from tests.crash.fleet import Fleet, Simulator
from tests.wires.proxy import Proxy

WELL_SECONDS = 40.0


class Wired:
    """A fleet behind two wires."""

    def __init__(self, fleet: Fleet, simulator: Simulator, redis: Proxy, gameye: Proxy) -> None:
        self.fleet = fleet
        self.simulator = simulator
        self.redis = redis
        self.gameye = gameye

    async def asked_until_struck(self, count: int, *, at_once: int = 3) -> None:
        """Ask for matches, a few at a time, until the wire to Redis has spoilt so many requests."""
        async with asyncio.timeout(WELL_SECONDS):
            while self.redis.struck.total() < count:
                await self.fleet.submit(at_once)
                await self.fleet.finished(WELL_SECONDS)

    async def all_well(self) -> None:
        """Every match is allocated once and announced once, and every worker lives."""
        await self.fleet.finished(WELL_SECONDS)
        account = await self.fleet.calm(self.simulator, WELL_SECONDS)
        assert not account.faults(), self.fleet.tails()
        assert account.states == {"allocated": len(self.fleet.asked)}
        assert len(account.results) == len(self.fleet.asked)
        assert all(worker.running for worker in self.fleet.workers), self.fleet.tails()
