"""One region's running state: its start limit, its warm pool, its addresses.

In: monotonic seconds and the region's settings, which may be replaced while it runs. Out: whether a warm session is
at hand, which host and ports a session gets, how long an answer takes. It promises that no two sessions of made-up
addresses share a host's port. Capacity is `fleet`'s, who sees the ledger.
"""

from __future__ import annotations

import random
from collections import deque

from allocator.simulator.addresses import Addresses
from allocator.simulator.gameye.ledger import PortMapping
from allocator.simulator.gameye.settings import RegionSettings, WarmPool
from allocator.simulator.limits import StartLimit

PORT_MIN, PORT_MAX = 20_000, 30_000
"""The vendor's range of host ports, both ends in it."""


class Region:
    """A region between two changes of its settings, and across them."""

    def __init__(self, number: int, settings: RegionSettings, seed: str) -> None:
        self.settings = settings
        self.limit = StartLimit()
        self.landing = 0
        """Starts that were taken and have not appeared yet: they hold a place already."""
        self._addresses = Addresses(number, PORT_MIN, PORT_MAX)
        self._refills: deque[float] = deque()
        self._random = random.Random(seed)  # noqa: S311 - a simulation, repeatable by its seed

    def claim_warm(self, image: str, now: float) -> WarmPool | None:
        """Take one session out of the pool, to be replaced `refill_seconds` later; None where it has none of these."""
        pool = self.settings.warm_pool
        if pool is None or pool.image not in {None, image}:
            return None
        while self._refills and self._refills[0] <= now:
            self._refills.popleft()
        if len(self._refills) >= pool.size:
            return None
        self._refills.append(now + pool.refill_seconds)
        return pool

    def address(self, ports: tuple[str, ...]) -> tuple[str, tuple[PortMapping, ...]]:
        """The host of a new session and the ports it is reached by."""
        host, first = self._addresses.take(len(ports), self.settings.host)
        mappings = []
        for place, name in enumerate(ports):
            container, _, protocol = name.partition("/")
            mappings.append(PortMapping(protocol, int(container), first + place))
        return host, tuple(mappings)

    def host(self) -> str:
        """The address of the region's first host: the one that answers pings."""
        return self._addresses.host(0, self.settings.host)

    def latency_seconds(self) -> float:
        """How long the next answer takes."""
        low, high = self.settings.latency_ms
        return (low if low == high else self._random.uniform(low, high)) / 1000
