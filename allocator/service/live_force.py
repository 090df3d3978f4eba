"""What is in force: settings with the operators' levers over them, laid out for what is asked with every request.

In: settings, levers, the name of each provider's account. Out: what a region's name leads to, the limits of a
destination, the rates. A value: made anew when one of them changes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from allocator.broker.levers import Levers, RegionLever
from allocator.contract.destination import Destination
from allocator.gate.gate import Limit
from allocator.placement.plan import Place, Region
from allocator.service.settings import Settings

ACCOUNT_SCOPE = "*"


class InForce:
    """One state of settings and levers."""

    def __init__(self, settings: Settings, levers: Levers, account_of: Callable[[str], str]) -> None:
        self.settings = settings
        self.levers = levers
        self._account_of = account_of
        self._places = {place.destination: place for places in settings.resolved.values() for place in places}
        self._lever_rates = self._tightest()
        self._regions = {name: region for name in settings.resolved if (region := self._region(name)) is not None}
        self._open_by = self._leading()

    @property
    def rates(self) -> dict[Destination, float]:
        """Starts a second of every configured destination, levers counted in."""
        return {each: self._lever_rates.get(each, place.rate) for each, place in self._places.items()}

    def open_by(self, destination: Destination) -> frozenset[str] | None:
        """The regions that lead to a destination and are not drained; None where no configured region leads there."""
        return self._open_by.get(destination)

    def leads_to(self, destination: Destination) -> bool:
        """Whether a region leads to a destination: a configured one, or one that is served by its name."""
        named = self.settings.resolve(destination.location)
        return destination in self._places or any(place.destination == destination for place in named)

    def kept_share_of(self, destination: Destination) -> float:
        """The share of a destination's rate that is kept for requests whose first region it is."""
        place = self._places.get(destination)
        return place.first_choice_share if place else 0.0

    def region(self, name: str) -> Region | None:
        """What a region's name leads to, and whether an operator has drained it; None: it is unknown here."""
        return self._regions.get(name) or self._region(name)

    def limits_of(self, destination: Destination) -> tuple[Limit, ...]:
        """A destination's own limit first, then its account's, which a refused credential shuts."""
        provider, place = destination.provider, self._places.get(destination)
        account, defaults = self._account_of(provider), self.settings.region_defaults
        rate, burst = (place.rate, place.burst) if place else (defaults.rate, defaults.burst)
        rate = self._lever_rates.get(destination, rate)
        table = self.settings.provider_table(provider)
        shared = table.rate if table else None
        return (
            Limit(provider, account, destination.location, rate, burst),
            Limit(provider, account, ACCOUNT_SCOPE, shared),
        )

    def _tightest(self) -> dict[Destination, float]:
        """The rates that levers set: a destination of two regions has one limit, which the tighter lever keeps."""
        rates: dict[Destination, float] = {}
        for name, lever in self.levers.regions.items():
            if lever.rate is not None:
                for place in self.settings.resolve(name):
                    rates[place.destination] = min(lever.rate, rates.get(place.destination, lever.rate))
        return rates

    def _leading(self) -> dict[Destination, frozenset[str]]:
        leading: dict[Destination, frozenset[str]] = {}
        for name, region in self._regions.items():
            for place in region.places:
                opened = frozenset[str]() if region.drained else frozenset({name})
                leading[place.destination] = leading.get(place.destination, frozenset()) | opened
        return leading

    def _region(self, name: str) -> Region | None:
        places = tuple(Place(each.destination, each.weight) for each in self.settings.resolve(name))
        lever = self.levers.regions.get(name)
        return Region(places, drained=_sentence(lever) if lever else "") if places else None


def _sentence(lever: RegionLever) -> str:
    return f"drained by an operator{until(lever.drained_until_ms)}" if lever.drained else ""


def until(at_ms: int | None) -> str:
    """` until 2026-11-21 12:30 UTC`; empty where there is no end."""
    return "" if at_ms is None else f" until {datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M UTC}"
