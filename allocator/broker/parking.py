"""The port to the car park: requests that would wait longer than a moment wait in the broker, not in a worker.

The way of a parked request::

    reserve --> hold --park--> lots --claim--> hold
                                 |
                                 +--reclaim (when it is to be looked at again) --> hold

A parked request is handed back clean with a lease that ends when it is to be looked at again, at its deadline at the
latest; so whatever takes over, cancels or expires a request under way does so with a parked one. Besides it stands in
a lot for each place that may serve it, whence `claim` takes the best first: by priority, then by deadline. Of any ten
claimed in a row from one lot, by whomever, one is of the lowest priority that waits, and one a normal one where high
and low ones wait as well: the lanes' rule. Bytes, deadline, first time, attempts and takes stay as they were.

Under full memory `park` raises `BrokerFull`; nothing else here does. What was claimed and never heard of, for the reply
was lost, comes back uncertain by `reclaim` when its lease ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from allocator.broker.broker import Hold
from allocator.contract.allocation import Attempt
from allocator.contract.codes import Code
from allocator.contract.request import Priority

STRANDED_MS = 3000
"""A lot that no worker has served for so long is no live worker's: each says once a second what it serves."""
STRANDED_LOTS_MAX = 256


@dataclass(frozen=True, slots=True)
class Stay:
    """A request that is to wait: for any of these lots, until `wake_ms` (Unix) at the longest.

    No call of its generation may be left unanswered. A lot is named by one line of text; without a lot it waits for
    the time alone. `code` and `message` say in its hash why it waits, where it was pushed back before. `trail` comes
    back with its next hold; an empty one leaves what is kept.
    """

    hold: Hold
    lots: tuple[str, ...]
    wake_ms: int
    attempts: tuple[Attempt, ...] = ()
    code: Code | None = None
    message: str = ""
    trail: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """How many a lot may send now; 0 to hear how many wait there."""

    lot: str
    count: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came of a claim: requests that are ours now, each with the lot it was called to; and who still waits.

    `waiting` holds every lot that was asked about and is not empty.
    """

    holds: tuple[tuple[Hold, str], ...] = ()
    waiting: Mapping[str, Mapping[Priority, int]] = field(default_factory=dict)
    parked: int = 0
    """Over all lots, each request once."""


class Parking(Protocol):
    """The parked requests of one namespace."""

    async def park(self, stay: Stay) -> bool:
        """Let go of a request until it is called or woken; False where it is not ours any more.

        From here on the hold's fence is stale. Stays of one loop turn travel together; repeating one is harmless.
        """
        ...

    async def claim(self, wants: Sequence[Want], count: int) -> Arrivals:
        """Take over up to `count` (256 at most) parked requests from these lots, in their order.

        Each comes under a new fence and a lease, and stands in no lot any more. Cheap where nobody is parked.
        """
        ...

    async def stranded(self, served: Sequence[str]) -> list[str]:
        """Say which lots are served here; gives those that hold somebody and that nobody has served for a while.

        Who parks one serves its lots. `STRANDED_MS` is a while; at most `STRANDED_LOTS_MAX` are named.
        """
        ...

    async def close(self) -> None:
        """Give back what waits to be sent."""
        ...
