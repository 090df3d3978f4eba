"""After a loss of Redis: which sessions are in play for requests that no record knows of any more.

In: requests that come in while a loss is not long past, and may be ones sent again. Out: the session that serves such a
request already. The providers' lists are read once and again until nothing from before the loss can land any more; then
what they hold is all there ever will be. A provider that does not say is asked again, for `PATIENCE_MS` in all: so long
a request whose session may be in play waits, but a list that never comes (a token without the right to read) must not
stop every match. Where labels are not kept (a warm pool's sessions) nobody can tell.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from allocator.contract.identity import session_id
from allocator.engine.lookups import LookUps
from allocator.providers.provider import (
    LANDING_HORIZON_MS,
    Absent,
    Found,
    LookupFailed,
    Session,
    SessionState,
)

LIST_SECONDS = 10.0
FRESH_MS = 10_000
PATIENCE_MS = 30_000
PAUSE_SECONDS = 1.0
PENDING_SECONDS = 40.0
STOPS_LAND_MS = 7_000
"""A DELETE is sent within a second of asking what is condemned, and given up after five (`stopper`): one that was sent
before anybody knew of a loss has ended its session by then, or never will."""
GENERATIONS_MAX = 16
"""Told apart by their ids; more calls whose answer was lost no single request has seen."""

Survivor = tuple[str, Session]


class Survivors:
    """What one process knows of the sessions of its deployment that are older than the last loss."""

    def __init__(self, look_ups: LookUps, providers: Collection[str], now_ms: Callable[[], int]) -> None:
        self._look_ups = look_ups
        self._providers = providers
        self._now_ms = now_ms
        self._found: Mapping[str, list[Survivor]] = {}
        self._as_of_ms = 0
        self._failing_since_ms: int | None = None
        self._tried_ms = 0
        self._reading = asyncio.Lock()

    async def of(self, request_id: str, deployment: str, namespace: str, loss_ms: int) -> list[Survivor]:
        """The sessions alive for a request, the one of the latest generation first; waits for the providers."""
        async with self._reading:
            good = self._is_good(loss_ms)
            while not good and not self._gives_up():
                good = await self._read(deployment, namespace)
        may_be_stopped_ms = loss_ms + STOPS_LAND_MS - self._now_ms()
        if may_be_stopped_ms > 0 and request_id in self._found:
            await asyncio.sleep(may_be_stopped_ms / 1000)
        alive = [each for listed in self._found.get(request_id, []) if (each := await self._now(*listed)) is not None]
        return latest_first(alive, deployment, request_id)

    async def _now(self, provider: str, session: Session) -> Survivor | None:
        """The session as it is now; None where it has ended since it was listed, hours ago perhaps.

        What is being made serves nobody yet, and may soon: it is waited for, `PENDING_SECONDS` at most.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + PENDING_SECONDS
        while True:
            found = await self._look_ups.find(
                provider, session.public_id, permit_seconds=LIST_SECONDS, timeout_seconds=LIST_SECONDS
            )
            match found:
                case Absent():
                    return None
                case Found(now):
                    session = now
            if session.state is not SessionState.PENDING:
                return None if session.state is SessionState.ENDED else (provider, session)
            if loop.time() > until:
                return None
            await asyncio.sleep(PAUSE_SECONDS)

    def _is_good(self, loss_ms: int) -> bool:
        """Whether nothing that is not known can have landed, but for what has landed just now."""
        settled = self._as_of_ms > loss_ms + LANDING_HORIZON_MS
        return self._as_of_ms > loss_ms and (settled or self._now_ms() - self._as_of_ms < FRESH_MS)

    def _gives_up(self) -> bool:
        """Whether the lists have not come for long; then one request tries again now and then, and none waits."""
        now_ms, since_ms = self._now_ms(), self._failing_since_ms
        return since_ms is not None and now_ms - since_ms > PATIENCE_MS and now_ms - self._tried_ms < FRESH_MS

    async def _read(self, deployment: str, namespace: str) -> bool:
        """Read every list anew; whether all of them came."""
        as_of_ms = self._tried_ms = self._now_ms()
        found: dict[str, list[Survivor]] = defaultdict(list)
        for provider in self._providers:
            sessions = await self._look_ups.list(
                provider, deployment, permit_seconds=LIST_SECONDS, timeout_seconds=LIST_SECONDS
            )
            if isinstance(sessions, LookupFailed):
                if self._failing_since_ms is None:
                    self._failing_since_ms = as_of_ms
                await asyncio.sleep(PAUSE_SECONDS)
                return False
            for session in sessions:
                ours = session.namespace in {None, namespace}
                if ours and session.request_id and session.state is not SessionState.ENDED:
                    found[session.request_id].append((provider, session))
        self._found, self._as_of_ms, self._failing_since_ms = found, as_of_ms, None
        return True


def latest_first(found: Sequence[Survivor], deployment: str, request_id: str) -> list[Survivor]:
    """By generation: an earlier one was left behind before a later one was called; unknown ids come last."""
    ids = [session_id(deployment, request_id, each + 1) for each in range(GENERATIONS_MAX)] if len(found) > 1 else []
    return sorted(found, key=lambda each: ids.index(each[1].id) if each[1].id in ids else -1, reverse=True)
