"""How many calls may be repeats after an unknown outcome: a fifth of the first attempts and a floor, over the fleet.

When a provider is ill, each request's second and third call would load it further and take permits from first ones.
Fallbacks after a definite refusal cost a provider nothing and do not count.
"""

from __future__ import annotations

from collections import Counter

from allocator.engine.lanes import Lanes
from allocator.gate.gate import Gate, GateUnavailable


class RetryBudget:
    """One process's share in the accounts' budgets."""

    def __init__(self, gate: Gate, lanes: Lanes) -> None:
        self._gate = gate
        self._lanes = lanes
        self._first: Counter[str] = Counter()

    def first(self, provider: str) -> None:
        """A first attempt is made."""
        self._first[provider] += 1

    async def allows(self, provider: str) -> bool:
        """Take one repeat out, where there is one."""
        first, self._first[provider] = self._first[provider], 0
        try:
            return await self._gate.may_repeat(self._lanes.account(provider), first)
        except GateUnavailable:
            self._first[provider] += first
            return False
