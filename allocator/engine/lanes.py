"""The lanes of one process, each made when it is first needed, with its pump beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import count

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import Lane
from allocator.engine.observer import Crashed, Observer
from allocator.engine.slots import Slots
from allocator.engine.ticket import Permit, Ticket
from allocator.gate.gate import Gate, Limit

LOOK_UPS_RATE = 100.0
LOOK_UPS_BURST = 20
LOOK_UPS_OUT_MAX = 64
LOOK_UPS_SCOPE = "*look-ups"


class Lanes:
    """Lanes by destination, and one for the look-ups and stops of each provider's account.

    `limits_of` names the limits of a destination, its own first; `account_of` the account of a provider.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        concurrency: int,
        limits_of: Callable[[Destination], tuple[Limit, ...]],
        account_of: Callable[[str], str],
        observe: Observer,
        chance: random.Random,
    ) -> None:
        self._gate = gate
        self._limits_of = limits_of
        self._account_of = account_of
        self._observe = observe
        self._chance = chance
        self._slots = Slots(concurrency)
        self._look_up_slots = Slots(LOOK_UPS_OUT_MAX)
        self._lanes: dict[Destination, Lane] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._look_ups = count()

    def of(self, destination: Destination) -> Lane:
        """The lane of a destination."""
        lane = self._lanes.get(destination)
        return lane or self._add(destination, self._limits_of(destination), self._slots)

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    async def look_up(self, provider: str, seconds: float) -> Permit | None:
        """Wait for leave to look up or stop one session of this provider; None when it took too long."""
        destination = Destination(provider, LOOK_UPS_SCOPE)
        lane = self._lanes.get(destination)
        if lane is None:
            limit = Limit(provider, self._account_of(provider), LOOK_UPS_SCOPE, LOOK_UPS_RATE, LOOK_UPS_BURST)
            lane = self._add(destination, (limit,), self._look_up_slots)
        return await Ticket(Priority.HIGH, (0, next(self._look_ups)), (lane,), 0).wait(seconds)

    async def close(self) -> None:
        """Stop every pump."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _add(self, destination: Destination, limits: tuple[Limit, ...], slots: Slots) -> Lane:
        lane = Lane(destination, limits, gate=self._gate, slots=slots, chance=self._chance)
        self._lanes[destination] = lane
        pump = asyncio.get_running_loop().create_task(self._keep_pumping(lane), name=f"lane {destination}")
        self._pumps.add(pump)
        return lane

    async def _keep_pumping(self, lane: Lane) -> None:
        while True:
            try:
                await lane.pump()
            except Exception as error:  # noqa: BLE001 - a fault in one round must not leave a lane without a pump
                self._observe(Crashed(f"lane {lane.destination}", error))
                await asyncio.sleep(1)
