"""How the regions stand now, for a person: settings, levers, and what the fleet's gate knows of each destination.

In: settings, a board of levers, the gate. Out: a `RegionRow` for each destination of each region that is configured, a
default, or under a lever. Nothing is changed. A Redis that cannot be asked is BrokerUnavailable or GateUnavailable.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from allocator.broker.levers import LeverBoard, Levers, RegionLever
from allocator.broker.steps import Steps
from allocator.broker.streams_levers import StreamsLevers
from allocator.contract.destination import Destination
from allocator.contract.keys import Keys
from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Gate, LimitState
from allocator.redis_io.connect import RedisConnection, connect
from allocator.service.live_force import InForce
from allocator.service.settings import Settings

DRAINED, OPEN, UNKNOWN = "drained", "open", "-"
_PROBE_HOLD_SECONDS = 602.0
"""As long as any setting lets a probe be out: who looks asks for no permit, but sees one of any worker's."""


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One destination of one region. `rate_now` is what the fleet gives it; None where nobody can say.

    `state`: `drained`, else why its gate or its account's is shut and for how long, else `open`; `-` where the settings
    here have no table of its provider.
    """

    region: str
    destination: Destination
    rate: float
    rate_now: float | None
    state: str
    closed_seconds: float
    lever: RegionLever

    def to_data(self) -> dict[str, Any]:
        """As JSON has it: times in Unix milliseconds."""
        return {
            "region": self.region,
            "provider": self.destination.provider,
            "location": self.destination.location,
            "rate": self.rate,
            "rate_now": self.rate_now,
            "state": self.state,
            "closed_seconds": round(self.closed_seconds, 3),
            "drained_until": self.lever.drained_until_ms,
            "rate_set": self.lever.rate,
            "rate_until": self.lever.rate_until_ms,
        }


def pause_facts(levers: Levers) -> dict[str, Any]:
    """Whether the fleet is paused, as JSON has it; times in Unix milliseconds."""
    return {"paused": levers.paused, "paused_until": levers.paused_until_ms}


@dataclass(frozen=True, slots=True)
class Panel:
    """The levers and the gate of one namespace."""

    settings: Settings
    board: LeverBoard
    gate: Gate

    async def rows(self, levers: Levers) -> list[RegionRow]:
        """Every region by name, with its destinations in order."""
        settings = self.settings
        accounts = {provider: settings.account_of(provider) or provider for provider in settings.providers}
        force = InForce(settings, levers, lambda provider: accounts[provider])
        names = sorted({*settings.regions, *settings.default_regions, *levers.regions})
        places = [(name, place) for name in names for place in settings.resolve(name)]
        known = {place.destination for _, place in places if place.destination.provider in accounts}
        limits = {each: force.limits_of(each) for each in known}
        asked = dict.fromkeys(limit for both in limits.values() for limit in both)
        found = dict(zip(asked, await self.gate.states(list(asked)), strict=True)) if asked else {}
        rows: list[RegionRow] = []
        for name, place in places:
            states = [found[limit] for limit in limits.get(place.destination, ())]
            lever = levers.regions.get(name, RegionLever())
            state, closed_seconds = _state(states, lever)
            rate_now = states[0].rate if states else None
            rows.append(RegionRow(name, place.destination, place.rate, rate_now, state, closed_seconds, lever))
        return rows


@asynccontextmanager
async def open_panel(settings: Settings) -> AsyncIterator[Panel]:
    """Give the panel; the connection ends with the block. RedisUrlError: redis.url cannot be understood."""
    async with await connect(settings.redis.url.get_secret_value(), name="levers") as connection:
        yield panel_on(connection, settings)


def panel_on(connection: RedisConnection, settings: Settings) -> Panel:
    """The panel over a connection that is the caller's."""
    chance = random.Random()  # noqa: S311 - jitter of cool-downs, and none is made here
    gate = FleetGate(connection, probe_hold_seconds=_PROBE_HOLD_SECONDS, chance=chance)
    return Panel(settings, StreamsLevers(Steps(connection, _nothing), Keys(settings.namespace)), gate)


async def _nothing() -> None:
    """No group is read here, so that none can be lost."""


def _state(states: list[LimitState], lever: RegionLever) -> tuple[str, float]:
    shut = next((each for each in states if each.cause is not None), None)
    closed_seconds = shut.closed_seconds if shut else 0.0
    if lever.drained:
        return DRAINED, closed_seconds
    if shut is not None and shut.cause is not None:
        return shut.cause.value, closed_seconds
    return (OPEN if states else UNKNOWN), 0.0
