"""One region's running state: its start limit, its warm pool, its addresses.

In: monotonic seconds and the region's settings, which may be replaced while it runs. Out: whether a warm session is
at hand, which host and ports a session gets, how long an answer takes. It promises that no two sessions of made-up
addresses share a host's port. Capacity is `fleet`'s, who sees the ledger.
"""

from __future__ import annotations

import random
from collections import deque

from allocator.simulator.gameye.ledger import PortMapping
from allocator.simulator.gameye.limits import StartLimit
from allocator.simulator.gameye.settings import RegionSettings, WarmPool

PORT_MIN, PORT_MAX = 20_000, 30_000
"""The vendor's range of host ports, both ends in it."""
_PORTS_A_HOST = PORT_MAX - PORT_MIN + 1


class Region:
    """A region between two changes of its settings, and across them."""

    def __init__(self, number: int, settings: RegionSettings, seed: str) -> None:
        self.settings = settings
        self.limit = StartLimit()
        self.landing = 0
        """Starts that were taken and have not appeared yet: they hold a place already."""
        self._number = number
        self._ports_given = 0
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
        if self._ports_given % _PORTS_A_HOST + len(ports) > _PORTS_A_HOST:
            self._ports_given += -self._ports_given % _PORTS_A_HOST  # all ports of a session are on one host
        host_number, first = divmod(self._ports_given, _PORTS_A_HOST)
        self._ports_given += len(ports)
        mappings = []
        for place, name in enumerate(ports):
            container, _, protocol = name.partition("/")
            mappings.append(PortMapping(protocol, int(container), PORT_MIN + first + place))
        return self.host(host_number), tuple(mappings)

    def host(self, number: int = 0) -> str:
        """The address of the region's host of this number; of the first, also the one that answers pings."""
        if self.settings.host is not None:
            return self.settings.host
        return f"10.{self._number % 256}.{(number + 1) // 256 % 256}.{(number + 1) % 256}"

    def latency_seconds(self) -> float:
        """How long the next answer takes."""
        low, high = self.settings.latency_ms
        return (low if low == high else self._random.uniform(low, high)) / 1000
