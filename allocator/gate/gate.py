"""The port to the fleet's limits: may this destination be called now, and who found it shut.

In: asks of the lanes. Out: permits, each a moment to call at. What is promised: over all processes of the fleet, no
limit of a destination or of its account gives more permits than its rate, and a shut destination gives none until
one probe has found it open. Kept out: who waits, in which order (the lane's), and what a status means (the engine's).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

REACH_SECONDS = 0.1
"""How far ahead permits are given: longer and a closing would void many, shorter and every ask brings one."""

SHARED_REACH_SECONDS = 0.02
"""The same where two rates are asked at once: the slower one's permits lie apart, and what lies between them is open to
others only as far as the shared rate counts a permit when it is given and not when it is due."""

PACE = 0.985
"""The share of a rate that is used, so that jitter on the wire never makes a rolling second exceed it."""

FIRST_COOLDOWN_SECONDS = 2.0
LAST_COOLDOWN_SECONDS = 60.0
CREDENTIAL_PROBE_SECONDS = 10.0
CLOSED_SECONDS_MAX = 300.0


class GateUnavailable(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """The fleet's limits cannot be asked now; nothing may be called."""


class Cause(StrEnum):
    """Why a limit was shut."""

    FULL = "full"
    UNAVAILABLE = "unavailable"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class Limit:
    """One rate of one account: of a destination, of the account as a whole, or of its look-ups.

    `scope` is a location, or `*` for the account, or `*look-ups`; `rate` a second, None for no limit.
    """

    provider: str
    account: str
    scope: str
    rate: float | None
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Ask:
    """How many permits a lane can use now, under all of these limits: its own first, then those it shares."""

    limits: tuple[Limit, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer: permits as seconds from now, in order; or how long to wait before asking again makes sense.

    `probe` says that the one permit given is to find out whether a shut limit is open again.
    """

    offsets_seconds: tuple[float, ...] = ()
    wait_seconds: float = 0.0
    closed: Cause | None = None
    probe: bool = False


def interval_seconds(limit: Limit, *, shared: bool) -> float:
    """How far apart a limit's permits lie; 0 where it has no rate.

    A shared one counts a permit up to `SHARED_REACH_SECONDS` before it is due, so that over a second as much more
    could fall due: it is paced slower by that much.
    """
    if not limit.rate:
        return 0.0
    return (1 + SHARED_REACH_SECONDS if shared else 1) / (limit.rate * PACE)


def bounded(retry_after_seconds: float) -> float:
    """How long a host that names a time is taken at its word."""
    return min(max(retry_after_seconds, 0.0), CLOSED_SECONDS_MAX)


class Gate(Protocol):
    """The limits of every account that this process uses."""

    async def permits(self, ask: Ask) -> Grant:
        """Ask for permits; asks of one loop turn travel together."""
        ...

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        """Shut a limit for so long, or for the next cool-down; the seconds until its probe."""
        ...

    async def open(self, limits: Sequence[Limit]) -> None:
        """A call got through: limits that were shut are open again."""
        ...
