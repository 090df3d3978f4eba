"""The fleet's gate: GCRA on Redis time, shared by every process that uses an account's name on one Redis.

In: asks of this process's lanes. Out: permits in the order of the asks, a little ahead (`REACH_SECONDS`). Asks of one
loop turn travel in one script call. A Redis that cannot be asked gives no permit: `GateUnavailable`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from allocator.contract.keys import gate_key
from allocator.gate.gate import (
    FIRST_COOLDOWN_SECONDS,
    LAST_COOLDOWN_SECONDS,
    REACH_SECONDS,
    SHARED_REACH_SECONDS,
    Ask,
    Cause,
    GateUnavailable,
    Grant,
    Limit,
    bounded,
    interval_seconds,
)
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import RedisConnection, Word
from allocator.redis_io.errors import RedisFault
from allocator.redis_io.scripts import Script

_PERMITS = Script.load("allocator.gate.scripts", "permits")
_SHUT = Script.load("allocator.gate.scripts", "shut")
_OPEN = Script.load("allocator.gate.scripts", "open")


class FleetGate:
    """The gate in Redis. `probe_hold_seconds`: how long a probe may be out before another is sent."""

    def __init__(self, connection: RedisConnection, *, probe_hold_seconds: float, chance: random.Random) -> None:
        self._connection = connection
        self._probe_hold_seconds = probe_hold_seconds
        self._chance = chance
        self._asks = Batcher(self._permits_batch, items_max=64)

    async def permits(self, ask: Ask) -> Grant:
        """See `Gate.permits`."""
        return await self._asks.submit(ask)

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        """See `Gate.shut`."""
        asked: Word = ""
        if retry_after_seconds is not None:
            asked = round(1000 * bounded(retry_after_seconds))
        first_ms, last_ms = round(FIRST_COOLDOWN_SECONDS * 1000), round(LAST_COOLDOWN_SECONDS * 1000)
        args: list[Word] = [cause.value, asked, first_ms, last_ms, self._chance.random()]
        return float(await self._run(_SHUT, [_key(limit)], args)) / 1000

    async def open(self, limits: Sequence[Limit]) -> None:
        """See `Gate.open`."""
        await self._run(_OPEN, [_key(limit) for limit in limits], [])

    async def _permits_batch(self, asks: list[Ask]) -> list[Grant]:
        keys: list[str] = []
        args: list[Word] = [round(REACH_SECONDS * 1e6), round(SHARED_REACH_SECONDS * 1e6)]
        args.append(round(self._probe_hold_seconds * 1e6))
        for ask in asks:
            args += [ask.count, len(ask.limits)]
            for index, limit in enumerate(ask.limits):
                keys.append(_key(limit))
                args += [round(1e6 * interval_seconds(limit, shared=index > 0), 3), limit.burst]
        return [_grant(reply) for reply in await self._run(_PERMITS, keys, args)]

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        try:
            return await script.run(self._connection, keys, args)
        except RedisFault as fault:
            raise GateUnavailable(str(fault)) from fault


def _key(limit: Limit) -> str:
    return gate_key(limit.provider, limit.account, limit.scope)


def _grant(reply: list[int | bytes]) -> Grant:
    wait_us, cause, probe, *offsets = reply
    return Grant(
        offsets_seconds=tuple(int(offset) / 1e6 for offset in offsets),
        wait_seconds=int(wait_us) / 1e6,
        closed=Cause(cause.decode()) if isinstance(cause, bytes) and cause else None,
        probe=bool(probe),
    )
