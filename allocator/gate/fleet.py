"""The fleet's gate: GCRA on Redis time, shared by every process that uses an account's name on one Redis.

In: asks of this process's lanes. Out: permits in the order of the asks, a little ahead (`REACH_SECONDS`). Asks of one
loop turn travel in one script call. A Redis that cannot be asked gives no permit: `GateUnavailable`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from allocator.contract.keys import gate_key
from allocator.gate.adaptive import CLIMB_SECONDS, DROP
from allocator.gate.gate import (
    ASIDE_FIRST_SECONDS,
    ASIDE_LAST_SECONDS,
    ASIDE_SECONDS_MAX,
    DOUBTS_MAX,
    FIRST_COOLDOWN_SECONDS,
    JUDGING_SECONDS,
    LAST_COOLDOWN_SECONDS,
    REACH_SECONDS,
    REPEATS_A_SECOND,
    REPEATS_MAX,
    REPEATS_SHARE,
    SHARED_REACH_SECONDS,
    SHUT_SECONDS_MAX,
    VERDICT_SECONDS,
    VERDICT_SECONDS_MAX,
    Ask,
    Cause,
    GateUnavailable,
    Grant,
    Limit,
    LimitState,
    Verdict,
    bounded,
    pace_seconds,
)
from allocator.gate.standing import Standing
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import RedisConnection, Word
from allocator.redis_io.errors import RedisFault
from allocator.redis_io.scripts import Script


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _script(name: str) -> Script:
    return Script.load("allocator.gate.scripts", name)


_PERMITS, _SHUT, _OPEN, _DOUBT = _script("permits"), _script("shut"), _script("open"), _script("doubt")
_SLOW, _VERDICT, _JUDGE = _script("slow"), _script("verdict"), _script("judge")
_REPEAT, _STATES = _script("repeat"), _script("states")

_REACHES_US = (_us(REACH_SECONDS), _us(SHARED_REACH_SECONDS))
_PACES: tuple[Word, ...] = (_us(pace_seconds(shared=False)), _us(pace_seconds(shared=True)), DROP, _us(CLIMB_SECONDS))
_ENDS_US: tuple[Word, ...] = (_us(SHUT_SECONDS_MAX), _us(ASIDE_SECONDS_MAX))
_ENDS_MS: tuple[Word, ...] = (_ms(SHUT_SECONDS_MAX), _ms(ASIDE_SECONDS_MAX))
_SEEN = ("until", "cause", "aside", "probe", "doubts", "ceiling", "slowed")


class FleetGate:
    """The gate in Redis."""

    def __init__(self, connection: RedisConnection, *, probe_hold_seconds: float, chance: random.Random) -> None:
        self.probe_hold_seconds = probe_hold_seconds
        """How long a probe may be out before another is sent; may be set anew at any time."""
        self._connection = connection
        self._chance = chance
        self._asks = Batcher(self._permits_batch, items_max=64)

    async def permits(self, ask: Ask) -> Grant:
        """See `Gate.permits`."""
        return await self._asks.submit(ask)

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        """See `Gate.shut`."""
        asked: Word = "" if retry_after_seconds is None else _ms(bounded(retry_after_seconds))
        cooldowns = _ms(FIRST_COOLDOWN_SECONDS), _ms(LAST_COOLDOWN_SECONDS)
        args: list[Word] = [cause.value, asked, *cooldowns, self._chance.random(), int(cause.answered), *_ENDS_MS]
        return float(await self._run(_SHUT, [_key(limit)], args)) / 1000

    async def open(self, limits: Sequence[Limit]) -> None:
        """See `Gate.open`."""
        await self._run(_OPEN, [_key(limit) for limit in limits], [_us(SHUT_SECONDS_MAX)])

    async def doubt(self, limit: Limit, *, probe: bool = False) -> float:
        """See `Gate.doubt`."""
        rests: list[Word] = [_ms(ASIDE_FIRST_SECONDS), _ms(ASIDE_LAST_SECONDS)]
        args: list[Word] = [DOUBTS_MAX, *rests, self._chance.random(), "1" if probe else "", _ms(ASIDE_SECONDS_MAX)]
        return float(await self._run(_DOUBT, [_key(limit)], args)) / 1000

    async def slow(self, limit: Limit, begun_seconds_ago: float) -> float:
        """See `Gate.slow`."""
        if not limit.rate:
            return float("inf")
        args: list[Word] = [limit.rate, _us(begun_seconds_ago), DROP, _us(CLIMB_SECONDS)]
        return float(await self._run(_SLOW, [_key(limit)], args)) / 1000

    async def verdict(self, limit: Limit) -> Verdict:
        """See `Gate.verdict`."""
        verdict: bytes = await self._run(_VERDICT, [_key(limit)], [_us(JUDGING_SECONDS), _us(VERDICT_SECONDS_MAX)])
        return Verdict(verdict.decode())

    async def judge(self, limit: Limit, verdict: Verdict) -> None:
        """See `Gate.judge`."""
        await self._run(_JUDGE, [_key(limit)], [verdict.value, _us(VERDICT_SECONDS)])

    async def may_repeat(self, account: Limit, first_attempts: int) -> bool:
        """See `Gate.may_repeat`."""
        args: list[Word] = [first_attempts, REPEATS_SHARE, REPEATS_A_SECOND, REPEATS_MAX]
        return bool(await self._run(_REPEAT, [_key(account)], args))

    async def states(self, limits: Sequence[Limit]) -> list[LimitState]:
        """See `Gate.states`."""
        now_us, *found = await self._run(_STATES, [_key(limit) for limit in limits], _SEEN)
        now, held = now_us / 1e6, self.probe_hold_seconds
        return [_standing(each).seen(limit, now, held) for limit, each in zip(limits, found, strict=True)]

    async def _permits_batch(self, asks: list[Ask]) -> list[Grant]:
        keys: list[str] = []
        args: list[Word] = [*_REACHES_US, _us(self.probe_hold_seconds), *_PACES, *_ENDS_US]
        for ask in asks:
            args += [ask.count, int(ask.last_resort), len(ask.limits)]
            for limit in ask.limits:
                keys.append(_key(limit))
                args += [limit.rate or 0, limit.burst]
        replies = await self._run(_PERMITS, keys, args)
        return [_grant(ask, reply) for ask, reply in zip(asks, replies, strict=True)]

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        try:
            return await script.run(self._connection, keys, args)
        except RedisFault as fault:
            raise GateUnavailable(str(fault)) from fault


def _key(limit: Limit) -> str:
    return gate_key(limit.provider, limit.account, limit.scope)


def _grant(ask: Ask, reply: list[int | bytes]) -> Grant:
    wait_us, cause, probe, lowered, doubted, *offsets = reply
    return Grant(
        offsets_seconds=tuple(int(offset) / 1e6 for offset in offsets),
        wait_seconds=int(wait_us) / 1e6,
        closed=Cause(cause.decode()) if isinstance(cause, bytes) and cause else None,
        probe=bool(probe),
        rate=int(lowered) / 1000 if lowered else ask.limits[0].rate,
        doubted=bool(doubted),
    )


def _standing(found: list[bytes | None]) -> Standing:
    until, cause, aside, probe, doubts, ceiling, slowed = found
    return Standing(
        until=None if until is None else int(until) / 1e6,
        cause=None if cause is None else Cause(cause.decode()),
        aside=None if aside is None else int(aside) / 1e6,
        probe=int(probe or 0) / 1e6,
        doubts=int(doubts or 0),
        ceiling=None if ceiling is None else float(ceiling),
        slowed=int(slowed or 0) / 1e6,
    )
