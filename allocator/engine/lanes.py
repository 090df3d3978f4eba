"""The lanes of one process, each made when it is first needed, with its pump beside it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import FIRST_WINDOW, Lane
from allocator.engine.lot import GUESTS, lot_of, place_of
from allocator.engine.observer import Crashed, Observer
from allocator.engine.slots import Slots
from allocator.engine.ticket import Permit, Ticket
from allocator.gate.gate import Gate, Limit

LOOK_UPS_RATE = 100.0
LOOK_UPS_BURST = 20
LOOK_UPS_OUT_MAX = 64
LOOK_UPS_SCOPE = "*look-ups"
ACCOUNT_SCOPE = "*"


class Lanes:
    """Lanes by destination, and one for the look-ups and stops of each provider's account.

    `limits_of` names the limits of a destination, its own first; `account_of` the account of a provider;
    `kept_share_of` the share of a destination's rate that guests do not get; `destinations` those that settings name;
    `open_by` the regions that lead to one and are not drained, None where nobody knows; `leads_to` whether any request
    may go to one at all; `first_window_of` how many calls may be out to a destination of a provider that has not shown
    that it serves.
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
        kept_share_of: Callable[[Destination], float] = lambda _: 0.0,
        destinations: Callable[[], Iterable[Destination]] = tuple,
        first_window_of: Callable[[str], int] = lambda _: FIRST_WINDOW,
        open_by: Callable[[Destination], frozenset[str] | None] = lambda _: None,
        leads_to: Callable[[Destination], bool] = lambda _: True,
    ) -> None:
        self._gate = gate
        self._limits_of = limits_of
        self._account_of = account_of
        self._kept_share_of = kept_share_of
        self._destinations = destinations
        self._first_window_of = first_window_of
        self._open_by = open_by
        self._leads_to = leads_to
        self._observe = observe
        self._chance = chance
        self._slots = Slots(concurrency)
        self._look_up_slots = Slots(LOOK_UPS_OUT_MAX)
        self._lanes: dict[Destination, Lane] = {}
        self._guests: dict[Destination, Lane] = {}
        self._look_up_lanes: dict[str, Lane] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._look_ups = count()
        self._stirred = asyncio.Event()
        self.changes = 0
        """Counts how often something changed by which routes are chosen."""

    def of(self, destination: Destination, *, guest: bool = False) -> Lane:
        """The lane of a destination; guests have one of their own where a share of the rate is kept from them."""
        if guest and self._kept_share_of(destination) > 0:
            return self._guests.get(destination) or self._add_guests(destination)
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = self._add(destination, self._limits_of(destination), self._slots)
        return lane

    def __iter__(self) -> Iterator[Lane]:
        """Those that sessions are started through."""
        return iter([*self._lanes.values(), *self._guests.values()])

    def lots_without_lane(self) -> dict[str, tuple[Destination, bool]]:
        """Where others may have parked requests while nobody here has had one, each with what to ask `of` for."""
        lots: dict[str, tuple[Destination, bool]] = {}
        for destination in self._destinations():
            if destination not in self._lanes:
                lots[lot_of(destination)] = (destination, False)
            if destination not in self._guests and self._kept_share_of(destination) > 0:
                lots[lot_of(destination, guests=True)] = (destination, True)
        return lots

    def of_lot(self, lot: str) -> Lane | None:
        """The lane that calls those in a lot; None where no request is parked there any more, as settings are now."""
        destination, guest = place_of(lot)
        if not self._leads_to(destination) or (guest and not self._kept_share_of(destination) > 0):
            return None
        return self.of(destination, guest=guest)

    async def stirred(self, seconds: float) -> None:
        """Wait until a lane has room for those in its lot, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()

    def _stir(self) -> None:
        """Wake all who wait now; who comes later waits for the next time."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    def account(self, provider: str) -> Limit:
        """The limit that all destinations of a provider share."""
        return Limit(provider, self._account_of(provider), ACCOUNT_SCOPE, None)

    def refresh(self) -> None:
        """Take over what has changed in rates, shares and regions; whoever waits chooses anew."""
        self.changes += 1
        for destination, lane in self._lanes.items():
            lane.relimit(self._limits_of(destination))
        for destination, lane in self._guests.items():
            lane.relimit(self._guest_limits(destination))
        for lane in self:
            lane.open_by = self._open_by(lane.destination)
            lane.look_again()

    async def look_up(self, provider: str, seconds: float) -> Permit | None:
        """Wait for leave to look up or stop one session of this provider; None when it took too long."""
        lane = self._look_up_lanes.get(provider)
        if lane is None:
            limit = Limit(provider, self._account_of(provider), LOOK_UPS_SCOPE, LOOK_UPS_RATE, LOOK_UPS_BURST)
            lane = self._add(Destination(provider, LOOK_UPS_SCOPE), (limit,), self._look_up_slots)
            self._look_up_lanes[provider] = lane
        got = await Ticket(Priority.HIGH, (0, next(self._look_ups)), (lane,), 0).wait(seconds)
        return got if isinstance(got, Permit) else None

    async def close(self) -> None:
        """Stop every pump."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _add_guests(self, destination: Destination) -> Lane:
        hosts = self.of(destination)
        lane = self._add(destination, self._guest_limits(destination), self._slots, guests=True)
        self._guests[destination] = lane
        hosts.sibling, lane.sibling, lane.usual = lane, hosts, hosts.usual
        return lane

    def _guest_limits(self, destination: Destination) -> tuple[Limit, ...]:
        """Before the limits of all, the guests' own: what the kept share leaves of the rate."""
        own, *shared = self._limits_of(destination)
        rate = own.rate * (1 - self._kept_share_of(destination)) if own.rate else None
        return (replace(own, scope=f"{own.scope}{GUESTS}", rate=rate), own, *shared)

    def _add(self, destination: Destination, limits: tuple[Limit, ...], slots: Slots, *, guests: bool = False) -> Lane:
        lane = Lane(
            destination,
            limits,
            gate=self._gate,
            slots=slots,
            chance=self._chance,
            stir=self._stir,
            guests=guests,
            first_window=self._first_window_of(destination.provider),
        )
        lane.open_by = self._open_by(destination)
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
