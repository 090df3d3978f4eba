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
from collections.abc import Callable, Mapping

from allocator.contract.identity import session_id
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Crashed, Observer
from allocator.providers.provider import (
    LANDING_HORIZON_MS,
    Absent,
    Found,
    LookupFailed,
    Provider,
    Session,
    SessionState,
)

LIST_SECONDS = 10.0
FRESH_MS = 10_000
PATIENCE_MS = 30_000
PAUSE_SECONDS = 1.0
GENERATIONS_MAX = 16
"""Told apart by their ids; more calls whose answer was lost no single request has seen."""

Survivor = tuple[str, Session]


class Survivors:
    """What one process knows of the sessions of its deployment that are older than the last loss."""

    def __init__(
        self, lanes: Lanes, providers: Mapping[str, Provider], observe: Observer, now_ms: Callable[[], int]
    ) -> None:
        self._lanes = lanes
        self._providers = providers
        self._observe = observe
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
        alive = [each for each in self._found.get(request_id, []) if await self._lives(*each)]
        ids = [session_id(deployment, request_id, each + 1) for each in range(GENERATIONS_MAX)] if alive else []
        return sorted(alive, key=lambda each: ids.index(each[1].id) if each[1].id in ids else -1, reverse=True)

    async def _lives(self, provider: str, session: Session) -> bool:
        """Whether it has not ended since it was listed, hours ago perhaps."""
        permit = await self._lanes.look_up(provider, LIST_SECONDS)
        if permit is None:
            return True
        try:
            found = await self._providers[provider].find(session.id, timeout_seconds=LIST_SECONDS)
        except Exception as error:  # noqa: BLE001 - a provider's own fault says nothing about the session
            self._observe(Crashed(f"provider {provider}", error))
            return True
        finally:
            permit.lane.finish(served=True)
        return not isinstance(found, Absent) and not (
            isinstance(found, Found) and found.session.state is SessionState.ENDED
        )

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
            sessions = await self._list(provider, deployment)
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

    async def _list(self, provider: str, deployment: str) -> tuple[Session, ...] | LookupFailed:
        permit = await self._lanes.look_up(provider, LIST_SECONDS)
        if permit is None:
            return LookupFailed("no permit for a look-up came")
        try:
            return await self._providers[provider].list(deployment, timeout_seconds=LIST_SECONDS)
        except Exception as error:  # noqa: BLE001 - a provider's own fault says nothing about the sessions
            self._observe(Crashed(f"provider {provider}", error))
            return LookupFailed(type(error).__name__)
        finally:
            permit.lane.finish(served=True)
