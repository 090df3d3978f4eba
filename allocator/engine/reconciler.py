"""Holds the sessions at each provider against the records: what is condemned and alive, and what nobody explains.

In: the sessions that bear our mark, as each provider lists them. Out: counts, for whoever listens and for the other
workers, and condemned sessions whose stop is brought forward. Promises: it calls no stop itself, and absence of a
record condemns nothing, only a record that names another session of the same id does; a list that fails changes
nothing; one worker of the fleet at a time does this.

The records are read before the list is asked for and again after it: what either of the two explains is explained, so
a request that ends in between makes no orphan. What has no record and is younger than the landing horizon may be a
request's on its way back, and is waited for.

`stops_per_minute_max` bounds how many of the condemned that a list shows alive are handed to the stopper in any rolling
minute, over the fleet. It does not bound what the stopper does by itself: within the landing horizon it follows each
condemned id up on its own schedule, and none of those was ever handed out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from allocator.broker.broker import Condemned
from allocator.broker.census import Census, Orphan, OrphanKind, Sighting, Snapshot, Standing, Tally
from allocator.engine.observer import Reconciled
from allocator.engine.parts import Parts
from allocator.providers.provider import LANDING_HORIZON_MS, LookupFailed, Session, SessionState

DOUBLED = "another of its id serves"
RECONCILE_SECONDS = 30.0
TURN_MS = 20_000
"""Over the longest that a pass takes; under the shortest pause of a worker, so that one alone has every turn."""
PERMIT_SECONDS = 5.0
LIST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What the records leave of a provider's list."""

    orphans: tuple[Orphan, ...]
    condemned: tuple[str, ...]
    """The ids that must not live and do."""
    doubled: tuple[Session, ...] = ()
    """Those beside which another serves their request, and that nobody can have been told of."""

    def tally(self) -> Tally:
        """The same in numbers."""
        counts = Counter(orphan.kind for orphan in self.orphans)
        return Tally({kind: counts[kind] for kind in OrphanKind}, len(self.condemned))


async def reckon(
    census: Census, before: Snapshot, provider: str, sessions: Sequence[Session], namespace: str
) -> Reckoning:
    """Judge a list that was asked for after `before` was read. Raises BrokerUnavailable.

    A session of another namespace of this deployment is that one's to explain.
    """
    alive = [
        session
        for session in sessions
        if session.state is not SessionState.ENDED and session.namespace in {None, namespace}
    ]
    sightings = [Sighting(provider, each.id, each.request_id, each.native_id) for each in alive]
    standings = await census.standings(sightings)
    orphans: list[Orphan] = []
    condemned: list[str] = []
    doubled: list[Session] = []
    for session, standing in zip(alive, standings, strict=True):
        if standing is Standing.CONDEMNED:
            own = (provider, session.public_id) in before.condemned
            condemned.append(session.public_id if own else session.id)
        elif standing is Standing.DOUBLED and _never_told(session, before):
            doubled.append(session)
        elif (kind := _orphaned(session, standing, before, provider)) is not None:
            orphan = Orphan(
                provider=provider,
                session_id=session.public_id,
                location=session.location,
                request_id=session.request_id,
                kind=kind,
                created_at_ms=session.created_at_ms,
            )
            orphans.append(orphan)
    return Reckoning(tuple(orphans), tuple(condemned), tuple(doubled))


def _never_told(session: Session, before: Snapshot) -> bool:
    """Whether no record that was lost can have named it: it is younger than the last loss, by far."""
    created_at_ms = session.created_at_ms
    return not before.loss_ms or (created_at_ms is not None and created_at_ms > before.loss_ms + LANDING_HORIZON_MS)


def _orphaned(session: Session, standing: Standing, before: Snapshot, provider: str) -> OrphanKind | None:
    names = {(provider, session.id), (provider, session.public_id)}
    if session.request_id in before.under_way or not names.isdisjoint(before.condemned):
        return None
    match standing:
        case Standing.OTHERWISE | Standing.DOUBLED:
            return OrphanKind.SUPERSEDED
        case Standing.NO_RECORD:
            created_at_ms = session.created_at_ms
            is_young = created_at_ms is not None and before.now_ms - created_at_ms < LANDING_HORIZON_MS
            return None if is_young else OrphanKind.UNEXPLAINED
        case _:
            return None


class Reconciler:
    """One worker's part in it."""

    def __init__(self, parts: Parts, census: Census) -> None:
        self._parts = parts
        self._census = census

    async def look(self) -> None:
        """Pass over the providers where it is our turn, and tell what the last pass found. Raises BrokerUnavailable."""
        failures: dict[str, str] = {}
        is_ours = await self._census.turn(TURN_MS)
        if is_ours:
            providers = list(self._parts.providers)
            said = await asyncio.gather(*(self._pass(provider) for provider in providers))
            failures = {provider: why for provider, why in zip(providers, said, strict=True) if why is not None}
        await self._tell(failures, is_ours=is_ours)

    async def _pass(self, provider: str) -> str | None:
        """Reconcile one provider; why not, where its sessions could not be listed."""
        before = await self._census.snapshot()
        sessions = await self._parts.look_ups.list(
            provider, self._parts.policy.deployment, permit_seconds=PERMIT_SECONDS, timeout_seconds=LIST_SECONDS
        )
        if isinstance(sessions, LookupFailed):
            return sessions.message
        policy = self._parts.policy
        reckoning = await reckon(self._census, before, provider, sessions, policy.namespace)
        await self._census.keep(provider, reckoning.tally(), reckoning.orphans)
        if policy.observes:
            return None
        if reckoning.condemned:
            await self._census.hasten(provider, reckoning.condemned, policy.stops_per_minute_max)
        for session in reckoning.doubled:
            condemned = Condemned(provider, session.public_id, DOUBLED)
            # refused where the record names it by now
            await self._parts.aftermath.condemn(condemned, session.request_id or "", release=False)
        return None

    async def _tell(self, failures: dict[str, str], *, is_ours: bool) -> None:
        """Every worker tells of the last pass, whoever made it: a count that only one of them knew would go stale."""
        found = [await self._census.tally(provider) for provider in self._parts.providers]
        tallies = [tally for tally in found if tally is not None]
        if not tallies and not failures:
            return
        counts = {kind.value: sum(tally.orphans[kind] for tally in tallies) for kind in OrphanKind}
        condemned_alive = sum(tally.condemned for tally in tallies)
        self._parts.observe(Reconciled(counts, condemned_alive, failures, passed=is_ours))
