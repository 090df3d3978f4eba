"""Those who wait outside for one lane, as they were last heard of.

In: what Redis says of each partition's part of the lot, and who was parked here since. Out: how many of each priority
wait there in all, and how many of the free places in the lane one partition may call for. The lot itself is in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator.contract.destination import Destination
from allocator.contract.request import Priority

GUESTS = "~guests"
"""What the lot of those is called who had rather gone elsewhere."""


def lot_of(destination: Destination, *, guests: bool = False) -> str:
    """Where those are parked who wait for a destination."""
    return f"{destination}{GUESTS if guests else ''}"


def place_of(lot: str) -> tuple[Destination, bool]:
    """The destination that a lot is of, and whether it is its guests'."""
    provider, _, location = lot.removesuffix(GUESTS).partition("/")
    return Destination(provider, location), lot.endswith(GUESTS)


class Lot:
    """What one process knows of it."""

    def __init__(self) -> None:
        self.parked: Mapping[Priority, int] = {}
        """Who waits there, in all partitions."""
        self._heard: dict[str, Mapping[Priority, int]] = {}

    def hear(self, namespace: str, waiting: Mapping[Priority, int]) -> None:
        """Take in who waits in one partition."""
        self._heard[namespace] = waiting
        if len(self._heard) > 1:
            every = self._heard.values()
            waiting = {each: sum(heard.get(each, 0) for heard in every) for each in Priority}
        self.parked = {each: count for each, count in waiting.items() if count}

    def park_one(self, namespace: str, priority: Priority) -> None:
        """One more waits there: known at once, so that whoever comes next does not overtake it."""
        heard = self._heard.get(namespace, {})
        self.hear(namespace, {**heard, priority: heard.get(priority, 0) + 1})

    def part(self, namespace: str, places: int) -> int:
        """How many of these places are for one partition: by its part of all who wait."""
        ours, every = sum(self._heard.get(namespace, {}).values()), sum(self.parked.values())
        return places if ours == every else -(-places * ours // every)
