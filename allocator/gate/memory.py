"""The gate's twin: one process's memory instead of Redis, on the loop's clock. Same promises, same arithmetic."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from allocator.gate.gate import (
    FIRST_COOLDOWN_SECONDS,
    LAST_COOLDOWN_SECONDS,
    REACH_SECONDS,
    SHARED_REACH_SECONDS,
    Ask,
    Cause,
    Grant,
    Limit,
    bounded,
    interval_seconds,
)

JITTER = 0.2
LEVEL_MAX = 30


@dataclass(slots=True)
class _State:
    due: float = float("-inf")
    shut_until: float = 0.0
    level: int = 0
    probe_until: float = 0.0
    cause: Cause | None = None


class MemoryGate:
    """A gate that several engines of one process share."""

    def __init__(self, *, probe_hold_seconds: float, chance: random.Random) -> None:
        self._probe_hold_seconds = probe_hold_seconds
        self._chance = chance
        self._states: dict[tuple[str, str, str], _State] = {}

    async def permits(self, ask: Ask) -> Grant:
        """See `Gate.permits`."""
        now = asyncio.get_running_loop().time()
        states = [(limit, self._state(limit)) for limit in ask.limits]
        wait, shut = max(((self._shut_for(state, now), state) for _, state in states), key=lambda each: each[0])
        if wait > 0:
            return Grant(wait_seconds=_whole(wait), closed=shut.cause)
        probing = [state for _, state in states if state.level > 0]
        offsets, wait = self._schedule(states, 1 if probing else ask.count, now)
        if offsets:
            for state in probing:
                state.probe_until = now + self._probe_hold_seconds
        return Grant(tuple(offsets), wait, probe=bool(probing and offsets))

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        """See `Gate.shut`."""
        now = asyncio.get_running_loop().time()
        state = self._state(limit)
        asked = None if retry_after_seconds is None else now + bounded(retry_after_seconds)
        if state.shut_until > now:
            state.shut_until = max(state.shut_until, state.shut_until if asked is None else asked)
        else:
            state.level = min(state.level + 1, LEVEL_MAX)
            cooldown = min(FIRST_COOLDOWN_SECONDS * 2 ** (state.level - 1), LAST_COOLDOWN_SECONDS)
            jittered = now + cooldown * (1 + JITTER * self._chance.random())
            state.shut_until = jittered if asked is None else asked
        state.cause, state.probe_until = cause, 0.0
        return state.shut_until - now

    async def open(self, limits: Sequence[Limit]) -> None:
        """See `Gate.open`."""
        now = asyncio.get_running_loop().time()
        for state in (self._state(limit) for limit in limits):
            if state.shut_until <= now:
                state.level, state.probe_until, state.cause = 0, 0.0, None

    def _state(self, limit: Limit) -> _State:
        return self._states.setdefault((limit.provider, limit.account, limit.scope), _State())

    @staticmethod
    def _shut_for(state: _State, now: float) -> float:
        if state.shut_until > now:
            return state.shut_until - now
        return max(0.0, state.probe_until - now) if state.level else 0.0

    @staticmethod
    def _schedule(states: Sequence[tuple[Limit, _State]], count: int, now: float) -> tuple[list[float], float]:
        offsets: list[float] = []
        rated = [
            (interval_seconds(limit, shared=index > 0), limit.burst, state, index > 0)
            for index, (limit, state) in enumerate(states)
            if limit.rate
        ]
        reach = SHARED_REACH_SECONDS if len(rated) > 1 else REACH_SECONDS
        for _ in range(count):
            at = max([now, *(max(state.due, now - (burst - 1) * gap) for gap, burst, state, _ in rated)])
            if at - now > reach:
                return offsets, _whole(at - now - reach)
            for gap, burst, state, shared in rated:
                state.due = max(state.due, (now if shared else at) - (burst - 1) * gap) + gap
            offsets.append(at - now)
        return offsets, 0.0


def _whole(seconds: float) -> float:
    """Round up to microseconds, as Redis counts: a wait too short for the loop's clock to move would never end."""
    return math.ceil(seconds * 1e6) / 1e6
