"""The gate's twin: one process's memory instead of Redis, on the loop's clock. Same promises, same arithmetic."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence

from allocator.gate.gate import (
    REACH_SECONDS,
    SHARED_REACH_SECONDS,
    Ask,
    Cause,
    Grant,
    Limit,
    LimitState,
    Verdict,
    pace_seconds,
)
from allocator.gate.standing import Standing


class MemoryGate:
    """A gate that several engines of one process share."""

    def __init__(self, *, probe_hold_seconds: float, chance: random.Random) -> None:
        self._probe_hold_seconds = probe_hold_seconds
        self._chance = chance
        self._standings: dict[tuple[str, str, str], Standing] = {}

    async def permits(self, ask: Ask) -> Grant:
        """See `Gate.permits`."""
        now = _now()
        standings, held = [(limit, self._standing(limit)) for limit in ask.limits], self._probe_hold_seconds
        first, own = standings[0]
        rate, doubted = own.rate(first, now), any(standing.doubts > 0 for _, standing in standings)
        closings = [standing.closing(now, held, last_resort=ask.last_resort) for _, standing in standings]
        wait, cause, _ = max(closings, key=lambda closing: closing[0])
        if wait > 0:
            return Grant(wait_seconds=_whole(wait), closed=cause, rate=rate, doubted=doubted)
        probing = [each for (_, each), (_, _, shut) in zip(standings, closings, strict=True) if shut]
        offsets, wait = self._schedule(standings, 1 if probing else ask.count, now)
        if offsets:
            for each in probing:
                each.probe = now + held
        return Grant(tuple(offsets), wait, probe=bool(probing and offsets), rate=rate, doubted=doubted)

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        """See `Gate.shut`."""
        return self._standing(limit).shut(cause, retry_after_seconds, self._chance.random(), _now())

    async def open(self, limits: Sequence[Limit]) -> None:
        """See `Gate.open`."""
        for limit in limits:
            self._standing(limit).open(_now())

    async def doubt(self, limit: Limit, *, probe: bool = False) -> float:
        """See `Gate.doubt`."""
        return self._standing(limit).doubt(self._chance.random(), _now(), probe=probe)

    async def slow(self, limit: Limit, begun_seconds_ago: float) -> float:
        """See `Gate.slow`."""
        now = _now()
        return self._standing(limit).slow(limit, now - begun_seconds_ago, now)

    async def verdict(self, limit: Limit) -> Verdict:
        """See `Gate.verdict`."""
        return self._standing(limit).find_out(_now())

    async def judge(self, limit: Limit, verdict: Verdict) -> None:
        """See `Gate.judge`."""
        self._standing(limit).judge(verdict, _now())

    async def may_repeat(self, account: Limit, first_attempts: int) -> bool:
        """See `Gate.may_repeat`."""
        return self._standing(account).may_repeat(first_attempts, _now())

    async def states(self, limits: Sequence[Limit]) -> list[LimitState]:
        """See `Gate.states`."""
        return [self._standing(limit).seen(limit, _now(), self._probe_hold_seconds) for limit in limits]

    def _standing(self, limit: Limit) -> Standing:
        return self._standings.setdefault((limit.provider, limit.account, limit.scope), Standing())

    @staticmethod
    def _schedule(standings: Sequence[tuple[Limit, Standing]], count: int, now: float) -> tuple[list[float], float]:
        offsets: list[float] = []
        rated = [
            (pace_seconds(shared=index > 0) / rate, limit.burst, standing, index > 0)
            for index, (limit, standing) in enumerate(standings)
            if (rate := standing.rate(limit, now))
        ]
        for gap, _, standing, _ in rated:  # due later than it can have been given: the clock went back
            standing.tat = min(standing.tat, now + REACH_SECONDS + gap)
        reach = SHARED_REACH_SECONDS if len(rated) > 1 else REACH_SECONDS
        for _ in range(count):
            at = max([now, *(max(standing.tat, now - (burst - 1) * gap) for gap, burst, standing, _ in rated)])
            if at - now > reach:
                return offsets, _whole(at - now - reach)
            for gap, burst, standing, shared in rated:
                standing.tat = max(standing.tat, (now if shared else at) - (burst - 1) * gap) + gap
            offsets.append(at - now)
        return offsets, 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()


def _whole(seconds: float) -> float:
    """Round up to microseconds, as Redis counts: a wait too short for the loop's clock to move would never end."""
    return math.ceil(seconds * 1e6) / 1e6
