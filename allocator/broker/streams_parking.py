"""The car park on Redis: parked requests keep their record and their lease, and stand in a sorted set for each lot.

In: the port's values. Out: the port's replies. The lease of a parked request is what wakes it, so a lot that is never
asked about loses nobody, and a loss of Redis needs no step of its own. A claim whose reply was lost leaves what it
took over under a lease that nobody renews. Whether its owner heard of it, and called a provider, can't be known here;
so those come back by `reclaim` as uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from allocator.broker import packing
from allocator.broker.broker import BATCH_MAX
from allocator.broker.parking import STRANDED_LOTS_MAX, STRANDED_MS, Arrivals, Stay, Want
from allocator.broker.steps import Steps
from allocator.contract.keys import Keys
from allocator.redis_io.batching import Batcher
from allocator.redis_io.scripts import Script

_PARK = Script.load("allocator.broker.scripts", "park")
_CLAIM = Script.load("allocator.broker.scripts", "claim_parked")
_STRANDED = Script.load("allocator.broker.scripts", "stranded")


class StreamsParking:
    """The parked requests of one namespace on one Redis, seen by one worker process."""

    def __init__(
        self,
        steps: Steps,
        keys: Keys,
        *,
        lease_ms: int,
        fence: Callable[[], str],
        loss_ms: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        """`fence` gives a text that is never given twice by any process, `loss_ms` when Redis lost something last."""
        self._steps = steps
        self._keys = keys
        self._lease_ms = lease_ms
        self._fence = fence
        self._loss_ms = loss_ms
        self._now_ms = now_ms
        self._stays = Batcher(self._park_batch, items_max=BATCH_MAX)

    async def park(self, stay: Stay) -> bool:
        """See `Parking.park`."""
        return await self._stays.submit(stay)

    async def claim(self, wants: Sequence[Want], count: int) -> Arrivals:
        """See `Parking.claim`."""
        keys, args = packing.claim(
            wants, min(count, BATCH_MAX), self._keys, fence=self._fence(), lease_ms=self._lease_ms
        )
        reply = await self._steps.run(_CLAIM, keys, args)
        return packing.arrivals(reply, wants, loss_ms=self._loss_ms())

    async def stranded(self, served: Sequence[str]) -> list[str]:
        """See `Parking.stranded`."""
        args = [self._keys.lots, STRANDED_MS, STRANDED_LOTS_MAX, *served]
        lots = await self._steps.run(_STRANDED, [self._keys.lot_names], args)
        return [lot.decode() for lot in lots]

    async def close(self) -> None:
        """See `Parking.close`."""
        await self._stays.aclose()

    async def _park_batch(self, stays: list[Stay]) -> list[bool]:
        keys, args = packing.park(stays, self._keys, now_ms=self._now_ms())
        return [bool(each) for each in await self._steps.run(_PARK, keys, args)]
