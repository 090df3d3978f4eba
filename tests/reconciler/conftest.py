"""The engine's fleet on real servers, the broker's houses, and a stage of twins whose clock a test moves.

stage   a `Stage`: one worker's parts over twins, without its loops
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)  # wherever pytest was started

from allocator.broker.broker import Condemned, Ending, Hold, Reservation  # noqa: E402 - below the path
from allocator.broker.memory import MemoryBroker  # noqa: E402 - as above
from allocator.broker.memory_aftermath import MemoryAftermath  # noqa: E402 - as above
from allocator.broker.memory_census import MemoryCensus  # noqa: E402 - as above
from allocator.broker.memory_parking import MemoryParking  # noqa: E402 - as above
from allocator.broker.memory_store import MemoryStore  # noqa: E402 - as above
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK, Priority  # noqa: E402 - as above
from allocator.engine.insist import Insistence  # noqa: E402 - as above
from allocator.engine.lanes import Lanes  # noqa: E402 - as above
from allocator.engine.observer import Event, Reconciled  # noqa: E402 - as above
from allocator.engine.parts import Parts, Policy  # noqa: E402 - as above
from allocator.engine.reconciler import Reconciler  # noqa: E402 - as above
from allocator.engine.stopper import stop_condemned  # noqa: E402 - as above
from allocator.gate.memory import MemoryGate  # noqa: E402 - as above
from allocator.providers.memory import Failure, MemoryProvider  # noqa: E402 - as above
from allocator.providers.memory_host import MemoryLocation  # noqa: E402 - as above
from allocator.providers.provider import Created, StartSpec  # noqa: E402 - as above
from tests.broker.conftest import keys_without_ttl, streams, twin  # noqa: E402 - as above
from tests.engine.conftest import fleet, make_fleet, quick  # noqa: E402 - as above

__all__ = ["fleet", "keys_without_ttl", "make_fleet", "quick", "streams", "twin"]

DEPLOYMENT = "tests"
MINUTE_MS = 60_000


class Stage:
    """Parts over twins; `shift_ms` moves the store's clock, and nothing happens unless it is asked for."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.shift_ms = 0
        self.events: list[Event] = []
        self.failing: set[str] = set()
        """The calls of the provider that fail: `find`, `stop`, `list`."""
        self.store = MemoryStore(lambda: int(loop.time() * 1000) + self.shift_ms)
        self.store.deployment = DEPLOYMENT
        self.host = MemoryProvider(
            {"europe": MemoryLocation()},
            failures=lambda call, _subject: Failure("out of order") if call in self.failing else None,
        )
        self._numbers = itertools.count(1)
        self._lanes: list[Lanes] = []

    def parts(self, **policy: Any) -> Parts:
        """What one worker is made of; `policy` changes its settings."""
        chance = random.Random(1)
        gate = MemoryGate(probe_hold_seconds=1.0, chance=chance)
        lanes = Lanes(
            gate=gate,
            concurrency=8,
            limits_of=lambda _destination: (),
            account_of=lambda name: name,
            observe=self.events.append,
            chance=chance,
        )
        self._lanes.append(lanes)
        broker = MemoryBroker(
            self.store, deployment=DEPLOYMENT, lease_ms=10_000, result_ttl_ms=7_200_000, fence=self._fence
        )
        return Parts(
            broker=broker,
            aftermath=MemoryAftermath(self.store, lease_ms=10_000, result_ttl_ms=7_200_000, fence=self._fence),
            parking=MemoryParking(self.store, lease_ms=10_000, fence=self._fence),
            gate=gate,
            lanes=lanes,
            providers={"memory": self.host},
            atlas=lambda _region: None,
            policy=_policy(**policy),
            observe=self.events.append,
            insist=Insistence(self.events.append, chance),
            chance=chance,
        )

    async def land(self, session_id: str, request_id: str | None = "m-1", **labels: str) -> None:
        """A session appears at the host, as this deployment starts them."""
        ours = {MARK: DEPLOYMENT, NAMESPACE_MARK: "allocator"} | ({REQUEST_MARK: request_id} if request_id else {})
        spec = StartSpec("game", labels=ours | labels)
        assert isinstance(await self.host.start(session_id, "europe", spec, timeout_seconds=1), Created)

    async def hold(self, parts: Parts, request_id: str = "m-1") -> Hold:
        """A request under way."""
        self.store.grouped = True
        self.store.add(b"{}")
        (entry,) = await parts.broker.take(1, (Priority.NORMAL,))
        (hold,) = await parts.broker.reserve([Reservation(entry, request_id, "same", 60_000)])
        assert isinstance(hold, Hold)
        return hold

    async def allocated(self, parts: Parts, session_id: str, request_id: str = "m-1") -> None:
        """A request that this session serves."""
        hold = await self.hold(parts, request_id)
        fields = {"state": "allocated", "final": "1", "session_id": session_id}
        await parts.broker.commit(Ending(hold, fields, "{}", 9_000_000, session=("memory", session_id)))

    async def expired(self, parts: Parts, request_id: str = "m-1") -> None:
        """A request that ended without a session."""
        hold = await self.hold(parts, request_id)
        await parts.broker.commit(Ending(hold, {"state": "expired", "final": "1"}, "{}", 9_000_000))

    def condemn(self, session_id: str, reason: str = "start answered 504", *, due_in_ms: int = 0) -> None:
        self.store.condemn(Condemned("memory", session_id, reason), due_in_ms)

    async def look(self, parts: Parts) -> Reconciled:
        """One turn of a reconciler, whoever had the last; what it tells."""
        self.store.turn_until_ms = 0
        await Reconciler(parts, MemoryCensus(self.store)).look()
        (told,) = [event for event in self.events if isinstance(event, Reconciled)][-1:]
        return told

    async def stop(self, parts: Parts) -> None:
        """One turn of the stopper."""
        await stop_condemned(parts)

    def alive(self) -> set[str]:
        return {session.id for session in self.host.alive()}

    def stopped(self) -> list[str]:
        """Every DELETE that arrived, whether or not it found anything."""
        return [stop.session_id for stop in self.host.stops]

    async def close(self) -> None:
        for lanes in self._lanes:
            await lanes.close()

    def _fence(self) -> str:
        return f"fence-{next(self._numbers)}"


def _policy(**changes: Any) -> Policy:
    values: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "default_regions": ("europe",),
        "request_timeout_seconds": 60,
        "result_ttl_seconds": 7200,
        "session_ttl": "4h",
        "max_gate_wait_seconds": 2.0,
        "lease_seconds": 10.0,
        "concurrency": 8,
        "backlog": 8,
        "backlog_bytes": 1 << 20,
        "drain_seconds": 1.0,
        "call_timeout_seconds": {},
        "port_names": {},
    }
    return Policy(**values | changes)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.close()
