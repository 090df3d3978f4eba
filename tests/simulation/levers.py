"""The operators of a fleet and what its workers make of their levers, as the composition root does.

In: a store, a chance. Out: levers moved at any time (`Operator`), what has been set since when (`LeverLog`), and one
worker's atlas, limits and pause (`LeversInForce`), which follow as its looks are answered. A person's own way to the
store knows no faults.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.levers import DRAINED, PAUSED, RATE, Levers
from allocator.broker.memory_levers import MemoryLevers
from allocator.contract.destination import Destination
from allocator.gate.gate import Limit
from allocator.placement.plan import Place, Region
from tests.simulation.waits import REGIONS, SPARE
from tests.simulation.wire import Broken, Wire

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

PROVIDER = "memory"
LOOK_SECONDS = 0.5
SLOW_LOOK_SECONDS = 0.1
"""A look that takes longer than this is in trouble."""


class LeverLog:
    """What is set in a store, and since when; told of each change, and asked before each judgement."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.since: dict[str, float] = {}
        """By field: since when it has been set, without a break."""
        self.rates: list[tuple[str, float, float, float | None]] = []
        """Region, rate, from, until: None while it is set."""
        self._values: dict[str, tuple[int, str]] = {}
        """By field: until when, and its value."""

    def look(self) -> None:
        """Take note of what has come, gone and lapsed."""
        now, store = asyncio.get_running_loop().time(), self._fleet.store
        fields = {name: (int(ends), value) for name, (ends, _, value) in _parted(store.levers)}
        values = {name: each for name, each in fields.items() if not 0 < each[0] <= store.now_ms()}
        for name, (ends_ms, value) in self._values.items():
            if name in values and values[name][1] == value and not 0 < ends_ms <= store.now_ms():
                continue
            del self.since[name]
            self.rates = [
                (*each[:3], now) if each[3] is None and RATE + each[0] == name else each for each in self.rates
            ]
        for name, (_, value) in values.items():
            if name not in self.since:
                self.since[name] = now
                if name.startswith(RATE):
                    self.rates.append((name.removeprefix(RATE), float(value), now, None))
        self._values = values


class Operator:
    """A person who moves levers until the last fault, and undoes all of it then."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet = fleet
        self._chance = chance
        self._board = MemoryLevers(fleet.store)

    async def run(self) -> None:
        """Go on until cancelled."""
        every_seconds = self._fleet.scenario.waits.levers_every_seconds
        while every_seconds:
            await asyncio.sleep(self._chance.expovariate(1 / every_seconds))
            try:
                await self._move()
            except BrokerUnavailable:
                self._fleet.world.trace.say("an operator cannot reach the store")

    async def undo(self) -> None:
        """Let everything run again."""
        await self._board.resume()
        for region in REGIONS:
            await self._board.resume_region(region)
        self._fleet.lever_log.look()

    async def _move(self) -> None:
        chance, board = self._chance, self._board
        region, for_ms = chance.choice(REGIONS), chance.choice((None, 500, 3000))
        what = chance.choice(("pause", "resume", "drain", "drain", "set", "resume_region"))
        self._fleet.world.trace.say(f"LEVER {what} {region} for {for_ms} ms")
        match what:
            case "pause":
                await board.pause(for_ms)
            case "resume":
                await board.resume()
            case "drain":
                await board.drain(region, for_ms)
            case "set":
                await board.set_rate(region, self._fleet.scenario.rate * chance.choice((0.5, 2.0)), for_ms)
            case _:
                await board.resume_region(region)
        self._fleet.lever_log.look()


class LeversInForce:
    """The levers as one worker knows them; `follow` hears of each change."""

    def __init__(self, fleet: Fleet, wire: Wire) -> None:
        self._fleet = fleet
        self._wire = wire
        self._board = MemoryLevers(fleet.store)
        self._known = False
        self._asked_at: float | None = None
        self._troubled_at = float("-inf")
        self.levers = Levers()
        self.seen_at: dict[str, float] = {}
        """By field: since when this worker has known it to be set."""
        self._slept_before: dict[str, float] = {}
        """By field: how long it had slept by then."""
        self._slept_seconds = 0.0
        self._asleep_since: float | None = None
        self.follow: Callable[[], None] = lambda: None

    @property
    def paused(self) -> bool:
        """See `Live.paused`."""
        return not self._known or self.levers.paused

    def trouble(self) -> None:
        """It cannot know what is set."""
        self._troubled_at = asyncio.get_running_loop().time()

    def sleeps(self) -> None:
        """It stands still from now on."""
        if self._asleep_since is None:
            self._asleep_since = asyncio.get_running_loop().time()

    def wakes(self) -> None:
        """It goes on, and cannot know yet what has been set meanwhile."""
        now = asyncio.get_running_loop().time()
        self._slept_seconds += 0.0 if self._asleep_since is None else now - self._asleep_since
        self._asleep_since = None
        self.trouble()

    def seen_for_seconds(self, name: str) -> float:
        """How long it has known that a field is set, the time that it slept not counted."""
        slept_seconds = self._slept_seconds - self._slept_before[name]
        return asyncio.get_running_loop().time() - self.seen_at[name] - slept_seconds

    def troubled_since(self, moment: float) -> bool:
        """Whether a look has failed or hung since then."""
        now = asyncio.get_running_loop().time()
        hangs = self._asked_at is not None and now - self._asked_at > SLOW_LOOK_SECONDS
        return hangs or not self._known or self._troubled_at >= moment

    async def look(self) -> None:
        """See `Live.look`."""
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        try:
            levers = await self._wire.ask("levers", self._board.read)
        except (Broken, BrokerUnavailable) as trouble:
            self.trouble()
            raise BrokerUnavailable(f"levers: {trouble}") from trouble
        finally:
            if loop.time() - self._asked_at > SLOW_LOOK_SECONDS:
                self.trouble()
            self._asked_at = None
        if levers == self.levers and self._known:
            return
        self._known, self.levers = True, levers
        names = _names(levers)
        self.seen_at = {name: self.seen_at.get(name, loop.time()) for name in names}
        self._slept_before = {name: self._slept_before.get(name, self._slept_seconds) for name in names}
        self.follow()

    def region(self, name: str) -> Region | None:
        """See `InForce.region`."""
        wish = self._fleet.scenario.waits
        if name not in REGIONS:
            return None
        places = [Place(Destination(PROVIDER, name), 3.0 if wish.weighted else None)]
        if wish.spare:
            places.append(Place(Destination(PROVIDER, SPARE), 1.0 if wish.weighted else None))
        lever = self.levers.regions.get(name)
        return Region(tuple(places), "drained by an operator" if lever is not None and lever.drained else "")

    def open_by(self, destination: Destination) -> frozenset[str] | None:
        """See `InForce.open_by`."""
        regions = {name: self.region(name) for name in REGIONS}
        return frozenset(
            name
            for name, region in regions.items()
            if region is not None and not region.drained and destination in {each.destination for each in region.places}
        )

    def limits_of(self, destination: Destination) -> tuple[Limit, ...]:
        """See `InForce.limits_of`."""
        lever = self.levers.regions.get(destination.location)
        rate = self._fleet.world.scenario.rate if lever is None or lever.rate is None else lever.rate
        return (Limit(PROVIDER, PROVIDER, destination.location, rate), Limit(PROVIDER, PROVIDER, "*", None))


def _parted(levers: Mapping[str, str]) -> list[tuple[str, tuple[str, str, str]]]:
    return [(name, text.partition(" ")) for name, text in levers.items()]


def _names(levers: Levers) -> list[str]:
    """The fields that stand for these levers; a rate's is not told from one of another value."""
    drained = [DRAINED + region for region, lever in levers.regions.items() if lever.drained]
    return [*([PAUSED] if levers.paused else []), *drained]
