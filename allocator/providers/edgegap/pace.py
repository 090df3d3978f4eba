"""How often the host may be asked for a list or a status: its limits hold for the account, over the whole fleet.

In: the wish to make one call. Out: leave to make it now, or none in the time given. `OwnPace` is one process's alone,
for commands and tests; the workers of a fleet are given one that asks the gate they share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """The calls that the host limits by kind; starts are the lanes' to pace."""

    LIST = "list"
    STATUS = "status"


RATES: Mapping[Kind, float] = {Kind.LIST: 9.0, Kind.STATUS: 18.0}
"""A second, for a fleet: a tenth under the host's 10 and 20, for jitter on the wire and for who asks beside it."""
OWN_RATES: Mapping[Kind, float] = {Kind.LIST: 1.0, Kind.STATUS: 2.0}
"""A second, for one who asks beside a fleet: a person's command."""


class Pace(Protocol):
    """Gives leave to call."""

    async def __call__(self, kind: Kind, seconds: float, /) -> bool:
        """Wait for leave to make one call of this kind now, at most so long; False where none came."""
        ...


class OwnPace:
    """The pace of one process by itself."""

    def __init__(self, rates: Mapping[Kind, float] = OWN_RATES) -> None:
        self._rates = rates
        self._next: dict[Kind, float] = {}

    async def __call__(self, kind: Kind, seconds: float) -> bool:
        """See `Pace`."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        at = max(now, self._next.get(kind, now))
        if at > now + seconds:
            return False
        self._next[kind] = at + 1 / self._rates[kind]
        if at > now:
            await asyncio.sleep(at - now)
        return True
