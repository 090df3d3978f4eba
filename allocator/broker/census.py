"""The port to what the records say of sessions that were seen at a provider.

In: sessions by id, with the request that their label names. Out: how each stands, and what the last pass over a
provider found. Nothing here stops or condemns anything: `hasten` only brings forward the stop of what is condemned.
`BrokerUnavailable` is raised as by the broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

ORPHANS_KEPT_MAX = 500
"""Of one provider; their counts are kept whole."""
ORPHANS_KEPT_MS = 10 * 60 * 1000
STOPS_WINDOW_MS = 60 * 1000


class Standing(StrEnum):
    """What the records say of one session."""

    IN_PLAY = "in_play"
    """An allocated request names it."""
    CONDEMNED = "condemned"
    UNDER_WAY = "under_way"
    """Its request has not ended."""
    OTHERWISE = "otherwise"
    """Its request has ended, and not with this session in play."""
    DOUBLED = "doubled"
    """Its request is allocated on another that bears the same id of ours: a create that was doubled."""
    NO_RECORD = "no_record"


class OrphanKind(StrEnum):
    """Why nothing here explains a session."""

    UNEXPLAINED = "unexplained"
    """There is no record of its request: aged out, lost, or never here. It may be in play."""
    SUPERSEDED = "superseded"
    """Its request has ended otherwise, or with another session."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A session that was seen; `request_id` is what its label says, `native_id` as a `Session` has it."""

    provider: str
    session_id: str
    request_id: str | None
    native_id: str | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A session that runs, bears our mark, and that no record explains."""

    provider: str
    session_id: str
    location: str
    request_id: str | None
    kind: OrphanKind
    created_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What one pass counted at one provider: orphans by kind, and the condemned that are alive."""

    orphans: Mapping[OrphanKind, int]
    condemned: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is under way and condemned at one moment, on the broker's clock.

    `deployment` is None where the namespace is nobody's; `loss_ms` says when something was lost last, 0: never.
    """

    now_ms: int
    deployment: str | None
    loss_ms: int
    under_way: frozenset[str]
    condemned: frozenset[tuple[str, str]]


class Census(Protocol):
    """One namespace."""

    async def turn(self, hold_ms: int) -> bool:
        """Take the turn to reconcile for so long; False where another worker has it."""
        ...

    async def lead(self, hold_ms: int) -> bool:
        """Take the lead in sampling for the fleet, or keep it, for so long; False where another worker has it."""
        ...

    async def snapshot(self) -> Snapshot:
        """Say what is under way and condemned now."""
        ...

    async def standings(self, sightings: Sequence[Sighting]) -> list[Standing]:
        """Say how each of these stands now."""
        ...

    async def hasten(self, provider: str, session_ids: Sequence[str], per_minute_max: int) -> int:
        """Make the stop of those that are condemned due now, over the fleet at most so many sessions in any minute."""
        ...

    async def keep(self, provider: str, tally: Tally, orphans: Sequence[Orphan]) -> None:
        """Keep what a pass found at a provider, in place of what the one before found."""
        ...

    async def tally(self, provider: str) -> Tally | None:
        """What the last pass counted there; None where that has aged out."""
        ...
