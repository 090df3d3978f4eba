"""Counts what is the whole fleet's: queues, gates, orphans. One worker at a time does it for all.

In: the broker's survey, the gate's states, what the last pass over the providers' sessions found. Out: one event every
few seconds, from the worker that has the lead. Promises: of a fleet one worker tells; one that lost the lead, or cannot
ask, tells nothing, and what it told last is good for no longer than the lead was its.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from allocator.broker.broker import Broker, BrokerUnavailable, Depth, Survey
from allocator.broker.census import Census, OrphanKind, Tally
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import Observer, Surveyed
from allocator.gate.gate import Gate, GateUnavailable, Limit, LimitState

SAMPLE_SECONDS = 2.0
LEAD_MS = 6_000
"""Over two pauses and a slow answer: whoever has the lead keeps it while it lives, and soon nobody has it after."""


class Sampler:
    """One worker's part in it."""

    def __init__(
        self,
        records: Sequence[tuple[Broker, Census]],
        gate: Gate,
        observe: Observer,
        *,
        providers: Collection[str],
        limits: Callable[[], Collection[Limit]],
    ) -> None:
        """`records` are those of every partition, and the first says who leads.

        `limits` names those to tell of: the configured destinations' and their accounts'.
        """
        self._records = records
        self._gate = gate
        self._observe = observe
        self._providers = providers
        self._limits = limits

    async def look(self) -> None:
        """Sample where the lead is ours, or free. Raises BrokerUnavailable."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        _, first = self._records[0]
        if not await first.lead(LEAD_MS):
            return
        asked = await asyncio.gather(*(self._ask(*each) for each in self._records), return_exceptions=True)
        for fault in asked:
            if isinstance(fault, BaseException) and (fault is asked[0] or not isinstance(fault, BrokerUnavailable)):
                raise fault
        # A partition that cannot be asked now is left out: what is known of the others is better than nothing.
        found = [each for each in asked if not isinstance(each, BaseException)]
        survey = total([each for each, _ in found])
        tallies = [tally for _, each in found for tally in each]
        gates = await self._gates()
        self._observe(
            Surveyed(
                survey,
                good_for_seconds=LEAD_MS / 1000 - (loop.time() - since),
                gates=gates,
                orphans={kind.value: sum(tally.orphans[kind] for tally in tallies) for kind in OrphanKind}
                if tallies
                else None,
                condemned_alive=sum(tally.condemned for tally in tallies),
            )
        )

    async def _ask(self, broker: Broker, census: Census) -> tuple[Survey, list[Tally]]:
        """What one partition holds, and what the last passes over the sessions found for it."""
        survey = await broker.survey()
        found = [await census.tally(provider) for provider in self._providers]
        return survey, [tally for tally in found if tally is not None]

    async def _gates(self) -> Mapping[Destination, LimitState]:
        limits = list(self._limits())
        try:
            states = await self._gate.states(limits) if limits else []
        except GateUnavailable:
            return {}
        return {Destination(limit.provider, limit.scope): state for limit, state in zip(limits, states, strict=True)}


def total(surveys: Sequence[Survey]) -> Survey:
    """What waits and what is held in all partitions."""
    if len(surveys) == 1:
        return surveys[0]
    depths = {
        priority: Depth(
            untaken=sum(each.depths[priority].untaken for each in surveys),
            pending=sum(each.depths[priority].pending for each in surveys),
            oldest_seconds=max(each.depths[priority].oldest_seconds for each in surveys),
        )
        for priority in Priority
    }
    return Survey(
        held=sum(each.held for each in surveys),
        condemned=sum(each.condemned for each in surveys),
        depths=depths,
        parked=sum(each.parked for each in surveys),
    )
