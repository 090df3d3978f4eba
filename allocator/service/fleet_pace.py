"""The pace at which the whole fleet asks Edgegap for lists and statuses: limits of the gate, beside those of starts.

In: the wish to make one call. Out: leave to make it now. One wish of each kind at a time asks the gate, the others wait
in turn; a gate that cannot be asked gives no leave. Promises the rates of `pace.RATES`, over all processes that use the
account's name on one Redis.
"""

from __future__ import annotations

import asyncio

from allocator.gate.gate import Ask, Gate, GateUnavailable, Limit
from allocator.providers.edgegap.pace import RATES, Kind

LATE_SECONDS = 0.04
"""Leave that is used later would crowd the next one's second: as in a lane."""
AWAY_SECONDS = 0.2
"""Before a gate that could not be asked is asked again."""


class FleetPace:
    """See `Pace`."""

    def __init__(self, gate: Gate, account: str, provider: str = "edgegap") -> None:
        self._gate = gate
        self._limits = {kind: Limit(provider, account, f"*{kind.value}", rate) for kind, rate in RATES.items()}
        self._turns = {kind: asyncio.Lock() for kind in Kind}

    async def __call__(self, kind: Kind, seconds: float) -> bool:
        """See `Pace`."""
        try:
            async with asyncio.timeout(seconds), self._turns[kind]:
                await self._leave(self._limits[kind])
        except TimeoutError:
            return False
        return True

    async def _leave(self, limit: Limit) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                grant = await self._gate.permits(Ask((limit,), 1))
            except GateUnavailable:
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if not grant.offsets_seconds:
                await asyncio.sleep(max(grant.wait_seconds, 0.001))
                continue
            (offset,) = grant.offsets_seconds
            due = loop.time() + offset
            if offset > 0:
                await asyncio.sleep(offset)
            if loop.time() - due <= LATE_SECONDS:
                return
