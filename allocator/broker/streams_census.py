"""The census on Redis: each step one script.

In: the port's values. Out: the port's replies. What a pass found is a hash for each provider: the field `counts`, and
one field for each orphan, by its session id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from allocator.broker.broker import BATCH_MAX
from allocator.broker.census import (
    ORPHANS_KEPT_MAX,
    ORPHANS_KEPT_MS,
    STOPS_WINDOW_MS,
    Orphan,
    OrphanKind,
    Sighting,
    Snapshot,
    Standing,
    Tally,
)
from allocator.broker.steps import Steps
from allocator.contract.allocation import compact
from allocator.contract.keys import Keys
from allocator.redis_io.scripts import Script

_NAMES = ("turn", "lead", "snapshot", "standings", "hasten", "keep_orphans")
_SCRIPTS = {name: Script.load("allocator.broker.scripts", name) for name in _NAMES}
_COUNTS = "counts"


class StreamsCensus:
    """One namespace on one Redis, seen by one process; `worker` is what it is called there."""

    def __init__(self, steps: Steps, keys: Keys, *, worker: str) -> None:
        self._steps = steps
        self._keys = keys
        self._worker = worker

    async def turn(self, hold_ms: int) -> bool:
        """See `Census.turn`."""
        return bool(await self._run("turn", [self._keys.reconciler], [self._worker, hold_ms]))

    async def lead(self, hold_ms: int) -> bool:
        """See `Census.lead`."""
        return bool(await self._run("lead", [self._keys.sampler], [self._worker, hold_ms]))

    async def snapshot(self) -> Snapshot:
        """See `Census.snapshot`."""
        keys = [self._keys.meta, self._keys.history, self._keys.leases, self._keys.condemned]
        now_ms, deployment, loss_ms, under_way, condemned = await self._run("snapshot", keys, [])
        return Snapshot(
            now_ms=now_ms,
            deployment=deployment.decode() or None,
            loss_ms=loss_ms,
            under_way=frozenset(each.decode() for each in under_way),
            condemned=frozenset(_name(each.decode()) for each in condemned),
        )

    async def standings(self, sightings: Sequence[Sighting]) -> list[Standing]:
        """See `Census.standings`."""
        found: list[Standing] = []
        for start in range(0, len(sightings), BATCH_MAX):
            keys, args = [self._keys.condemned], list[str]()
            for each in sightings[start : start + BATCH_MAX]:
                request_id = each.request_id or ""
                keys += [self._keys.record(request_id), self._keys.allocation(request_id)]
                args += [each.session_id, f"{each.provider}/{each.session_id}", each.native_id or ""]
            found += [Standing(reply.decode()) for reply in await self._run("standings", keys, args)]
        return found

    async def hasten(self, provider: str, session_ids: Sequence[str], per_minute_max: int) -> int:
        """See `Census.hasten`."""
        handed = 0
        for start in range(0, len(session_ids), BATCH_MAX):
            members = [f"{provider}/{each}" for each in session_ids[start : start + BATCH_MAX]]
            keys = [self._keys.condemned, self._keys.stops]
            handed += await self._run("hasten", keys, [per_minute_max, STOPS_WINDOW_MS, *members])
        return handed

    async def keep(self, provider: str, tally: Tally, orphans: Sequence[Orphan]) -> None:
        """See `Census.keep`."""
        words = [_COUNTS, compact({**tally.orphans, "condemned": tally.condemned})]
        for each in orphans[:ORPHANS_KEPT_MAX]:
            words += [f"session:{each.session_id}", compact(each)]
        await self._run("keep_orphans", [self._keys.orphans(provider)], [ORPHANS_KEPT_MS, *words])

    async def tally(self, provider: str) -> Tally | None:
        """See `Census.tally`."""
        async with self._steps.asking():
            counts = await self._steps.connection.execute("HGET", self._keys.orphans(provider), _COUNTS)
        if counts is None:
            return None
        numbers = json.loads(counts)
        return Tally({kind: numbers.get(kind, 0) for kind in OrphanKind}, numbers["condemned"])

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._steps.run(_SCRIPTS[name], keys, args)


def _name(member: str) -> tuple[str, str]:
    provider, _, session_id = member.partition("/")
    return provider, session_id
