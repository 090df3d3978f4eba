"""The port to the fleet's limits: may this destination be called now, and who found it shut.

In: asks of the lanes. Out: permits, each a moment to call at. What is promised: over all processes of the fleet, no
limit of a destination or of its account gives more permits than its rate, and a shut destination gives none until
one probe has found it open; a clock that goes back shuts nothing for longer than it can be shut. Kept out: who waits,
in which order (the lane's), and what a status means (the engine's).
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

DOUBTS_MAX = 5
"""So many unknown outcomes in a row set a limit aside."""

ASIDE_FIRST_SECONDS = 30.0
ASIDE_LAST_SECONDS = 300.0

JITTER = 0.2
"""The part of itself by which a rest is longer at most, so that not all probes go at once."""

ASIDE_SECONDS_MAX = ASIDE_LAST_SECONDS * (1 + JITTER)
SHUT_SECONDS_MAX = max(CLOSED_SECONDS_MAX, LAST_COOLDOWN_SECONDS * (1 + JITTER))
"""How long a limit can be set aside and shut: what ends later than that from now was set before the clock went back."""

JUDGING_SECONDS = 2.0
"""How long one may take to find out what a push-back meant, before another is told to."""

VERDICT_SECONDS = 3.0
"""How long what was found out holds: room comes and goes in seconds."""

VERDICT_SECONDS_MAX = max(JUDGING_SECONDS, VERDICT_SECONDS)

REPEATS_SHARE = 0.2
"""The part of a repeat that each first attempt brings into the budget."""

REPEATS_A_SECOND = 1.0
"""The floor of the budget: with few first attempts a match that lost its answer is still tried again."""

REPEATS_MAX = 20.0
"""What a budget holds: all calls that one region of 40 a second has out for half a second can be lost at once and each
be repeated; a longer outage lives on the floor."""


class GateUnavailable(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """The fleet's limits cannot be asked now; nothing may be called."""


class Cause(StrEnum):
    """Why a limit was shut."""

    FULL = "full"
    UNAVAILABLE = "unavailable"
    CREDENTIAL = "credential"
    SET_ASIDE = "set_aside"
    """Too many unknown outcomes in a row: a breaker."""

    @property
    def answered(self) -> bool:
        """Whether the host itself refused, which ends a row of unknown outcomes."""
        return self in (Cause.FULL, Cause.CREDENTIAL)


class Verdict(StrEnum):
    """What a push-back meant, or who finds out."""

    THROTTLED = "throttled"
    """Starts came too fast: the destination has room."""
    FULL = "full"
    ASK = "ask"
    """Nobody knows: it is the caller's to find out and to tell by `judge`."""
    ASKING = "asking"
    """Another is finding out."""


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
    last_resort: bool = False
    """Those who wait have nowhere else to go: a limit that is set aside gives them one probe at a time, at once."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer: permits as seconds from now, in order; or how long to wait before asking again makes sense.

    `probe` says that the one permit given is to find out whether a shut limit is open again. `rate` is what the first
    limit gives a second now: its own, or less where starts came too fast; `doubted` whether a call under it came to
    nothing since the last that got through, so that the next that does has to say so by `open`.
    """

    offsets_seconds: tuple[float, ...] = ()
    wait_seconds: float = 0.0
    closed: Cause | None = None
    probe: bool = False
    rate: float | None = None
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit as the fleet sees it now. `rate` is the effective one; `closed_seconds` until its next probe."""

    rate: float | None
    closed_seconds: float = 0.0
    cause: Cause | None = None
    unknown_in_a_row: int = 0


def pace_seconds(*, shared: bool) -> float:
    """How far apart the permits of one a second lie; those of another rate by so much closer or wider.

    A shared limit counts a permit up to `SHARED_REACH_SECONDS` before it is due, so that over a second as much more
    could fall due: it is paced slower by that much.
    """
    return (1 + SHARED_REACH_SECONDS if shared else 1) / PACE


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
        """A call was answered: limits that were shut are open again, and no outcome before it counts as unknown.

        One that was shut anew meanwhile stays shut; one that is set aside opens, for what the host said is newer.
        """
        ...

    async def doubt(self, limit: Limit, *, probe: bool = False) -> float:
        """A call came to an unknown outcome; the seconds for which the limit is set aside by now, 0 for not at all.

        `probe`: the call was one, so that another may be sent to those with nowhere else to go.

        Only an answer ends the row: `open`, or a `shut` by what the host itself said.
        """
        ...

    async def slow(self, limit: Limit, begun_seconds_ago: float) -> float:
        """A call that was begun so long ago came too fast: lower the rate, once a round trip; the rate from now on.

        It climbs back by itself (`adaptive`). A limit without a rate has none to lower: infinity.
        """
        ...

    async def verdict(self, limit: Limit) -> Verdict:
        """What a push-back under this limit means: known for a few seconds once one of the fleet has found out."""
        ...

    async def judge(self, limit: Limit, verdict: Verdict) -> None:
        """Tell the fleet what was found out, by who was asked to: `THROTTLED` or `FULL`."""
        ...

    async def may_repeat(self, account: Limit, first_attempts: int) -> bool:
        """Take one repeat after an unknown outcome out of the account's budget, where there is one left.

        `first_attempts` are those of this process since it last asked: each brings a fifth of a repeat in.
        """
        ...

    async def states(self, limits: Sequence[Limit]) -> list[LimitState]:
        """How these limits stand, for a person to look at."""
        ...
