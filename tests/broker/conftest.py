"""A house: one namespace with its brokers, seen from outside as a matchmaker, a person or a checker sees it.

twin      over a `MemoryStore`, on a clock that the test moves
streams   over a real server; once for each that is at hand
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import Broker, Condemned, Ending, Entry, Hold, Refusal, Reservation
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_store import MemoryStore
from allocator.broker.streams import StreamsBroker
from allocator.contract.codes import Code
from allocator.contract.keys import GROUP, Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection

if TYPE_CHECKING:
    from tests.conftest import TestServer

LEASE_MS = 60_000
RESULT_TTL_MS = 7_200_000
RESULTS_MAX_AGE_MS = 3_600_000
Said = tuple[str, str, str]
"""Request id, state, event."""


class House(ABC):
    """What both have in common."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.fence: Callable[[], str] = lambda: f"fence-{next(numbers)}"

    @abstractmethod
    def broker(self, worker: str = "w-1", /, *, deployment: str = "d", lease_ms: int = LEASE_MS) -> Broker: ...

    @abstractmethod
    async def add(self, raw: bytes | None, priority: Priority = Priority.NORMAL, *, entry_id: str = "*") -> str: ...

    @abstractmethod
    async def pass_ms(self, milliseconds: int) -> None: ...

    @abstractmethod
    async def allocation(self, request_id: str) -> dict[str, str]: ...

    @abstractmethod
    async def drop_allocation(self, request_id: str) -> None: ...

    @abstractmethod
    async def keeps_ms(self, request_id: str) -> int | None:
        """How long the allocation hash will be kept; None: for ever."""

    @abstractmethod
    async def results(self) -> list[Said]: ...

    @abstractmethod
    async def replies(self, reply_to: str) -> list[Said]: ...

    @abstractmethod
    async def dead_letters(self) -> list[tuple[str, str, bytes]]:
        """Code, request id, bytes."""

    @abstractmethod
    async def condemned(self) -> list[str]: ...

    @abstractmethod
    async def left(self) -> dict[str, int]:
        """What is not at its end: entries by stream, pending ones, leases. Empty: nothing."""

    @abstractmethod
    async def flush(self) -> None: ...

    async def prepared(self, worker: str = "w-1", *, lease_ms: int = LEASE_MS) -> Broker:
        broker = self.broker(worker, lease_ms=lease_ms)
        await broker.prepare()
        return broker

    async def taken(self, broker: Broker, raw: bytes = b"{}", priority: Priority = Priority.NORMAL) -> Entry:
        """An entry that was added and is pending."""
        entry_id = await self.add(raw, priority)
        (entry,) = await broker.take(1, (priority,))
        assert entry == Entry(priority, entry_id, raw)
        return entry

    async def held(self, broker: Broker, request_id: str = "m-1", **ask: Any) -> Hold:
        """A request that this broker has reserved."""
        (hold,) = await broker.reserve([self.ask(await self.taken(broker), request_id, **ask)])
        assert isinstance(hold, Hold)
        return hold

    def ask(self, entry: Entry, request_id: str = "m-1", **more: Any) -> Reservation:
        return Reservation(**{"entry": entry, "request_id": request_id, "digest": "same", "timeout_ms": 60_000, **more})

    def good_end(self, hold: Hold, *, session: str = "s-1", keep_ms: int = 9_000_000) -> Ending:
        fields = {"state": "allocated", "final": "1", "session_id": session, "host": "203.0.113.7", "attempts": "[]"}
        event = json.dumps({"id": f"{hold.entry_id}/allocated"})
        return Ending(hold, fields, event, keep_ms, session=("gameye", session))

    def bad_end(self, hold: Hold, *condemn: Condemned) -> Ending:
        fields = {"state": "expired", "final": "1", "error_code": "no_capacity", "error_message": "full"}
        event = json.dumps({"id": f"{hold.entry_id}/expired"})
        return Ending(hold, fields, event, RESULT_TTL_MS, condemn=condemn)

    def refusal(self, entry: Entry, request_id: str | None = "m-1", **more: Any) -> Refusal:
        values = {"state": "refused", "event": "refused-event", **more}
        return Refusal(entry, Code.INVALID_REQUEST, "bad", request_id, **values)

    def failing(self, entry: Entry, request_id: str = "m-1", **more: Any) -> Refusal:
        """What the engine says of an invalid body whose id can be read."""
        failure: Mapping[str, str] = {"state": "failed", "final": "1", "error_code": "invalid_request"}
        return self.refusal(entry, request_id, bury=True, failure=failure, failure_event="failed-event", **more)


class TwinHouse(House):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_700_000_000_000
        self.store = MemoryStore(lambda: self.now_ms)

    def broker(self, _worker: str = "w-1", /, *, deployment: str = "d", lease_ms: int = LEASE_MS) -> Broker:
        return MemoryBroker(
            self.store, deployment=deployment, lease_ms=lease_ms, result_ttl_ms=RESULT_TTL_MS, fence=self.fence
        )

    async def add(self, raw: bytes | None, priority: Priority = Priority.NORMAL, *, entry_id: str = "*") -> str:
        made = self.store.add(raw, priority)
        assert entry_id in ("*", made)
        return made

    async def pass_ms(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    async def allocation(self, request_id: str) -> dict[str, str]:
        return self.store.allocation(request_id)

    async def drop_allocation(self, request_id: str) -> None:
        self.store.drop_allocation(request_id)

    async def keeps_ms(self, request_id: str) -> int | None:
        expires_at_ms = self.store.allocation_expires_at_ms(request_id)
        return None if expires_at_ms is None else expires_at_ms - self.now_ms

    async def results(self) -> list[Said]:
        return [(each.request_id, each.state, each.event) for each in self.store.results]

    async def replies(self, reply_to: str) -> list[Said]:
        return [(each.request_id, each.state, each.event) for each in self.store.replies.get(reply_to, [])]

    async def dead_letters(self) -> list[tuple[str, str, bytes]]:
        return [(each.code, each.request_id, each.entry.raw or b"") for each in self.store.dead_letters]

    async def condemned(self) -> list[str]:
        return sorted("/".join(name) for name in self.store.condemned)

    async def left(self) -> dict[str, int]:
        streams = {each.value: stream for each, stream in self.store.streams.items()}
        counts = {name: len(stream.fresh) + len(stream.pending) for name, stream in streams.items()}
        counts |= {f"{name} pending": len(stream.pending) for name, stream in streams.items()}
        counts["leases"] = len(self.store.leases)
        return {name: count for name, count in counts.items() if count}

    async def flush(self) -> None:
        self.store.forget()


class StreamsHouse(House):
    def __init__(self, connection: RedisConnection, server: TestServer, namespace: str) -> None:
        super().__init__()
        self.connection = connection
        self.server = server
        self.keys = Keys(namespace)

    def broker(self, worker: str = "w-1", /, *, deployment: str = "d", lease_ms: int = LEASE_MS) -> Broker:
        return StreamsBroker(
            self.connection,
            self.keys,
            deployment=deployment,
            worker=worker,
            lease_ms=lease_ms,
            result_ttl_ms=RESULT_TTL_MS,
            results_max_age_ms=RESULTS_MAX_AGE_MS,
            fence=self.fence,
        )

    async def add(self, raw: bytes | None, priority: Priority = Priority.NORMAL, *, entry_id: str = "*") -> str:
        pair = ("other", "x") if raw is None else ("request", raw)
        made: bytes = await self.connection.execute("XADD", self.keys.requests(priority), entry_id, *pair)
        return made.decode()

    async def pass_ms(self, milliseconds: int) -> None:
        """Ask the server for the time until enough of it has passed."""
        began = await self._time_ms()
        while await self._time_ms() - began < milliseconds:
            pass

    async def _time_ms(self) -> float:
        seconds, microseconds = await self.connection.execute("TIME")
        return int(seconds) * 1000 + int(microseconds) / 1000

    async def allocation(self, request_id: str) -> dict[str, str]:
        words = [word.decode() for word in await self.connection.execute("HGETALL", self.keys.allocation(request_id))]
        return dict(zip(words[::2], words[1::2], strict=True))

    async def drop_allocation(self, request_id: str) -> None:
        await self.connection.execute("DEL", self.keys.allocation(request_id))

    async def keeps_ms(self, request_id: str) -> int | None:
        left_ms: int = await self.connection.execute("PTTL", self.keys.allocation(request_id))
        assert left_ms != -2, "there is no such hash"
        assert await self.connection.execute("PTTL", self.keys.record(request_id)) == pytest.approx(left_ms, abs=50)
        return None if left_ms == -1 else left_ms

    async def stream(self, key: str) -> list[dict[str, bytes]]:
        found = await self.connection.execute("XRANGE", key, "-", "+")
        return [
            {name.decode(): value for name, value in zip(words[::2], words[1::2], strict=True)} for _, words in found
        ]

    async def results(self) -> list[Said]:
        return [_said(entry) for entry in await self.stream(self.keys.results)]

    async def replies(self, reply_to: str) -> list[Said]:
        return [_said(entry) for entry in await self.stream(self.keys.results_for(reply_to))]

    async def dead_letters(self) -> list[tuple[str, str, bytes]]:
        found = await self.stream(self.keys.dead_letters)
        return [(each["code"].decode(), each["request_id"].decode(), each["request"]) for each in found]

    async def condemned(self) -> list[str]:
        found = await self.connection.execute("ZRANGE", self.keys.condemned, 0, -1)
        notes = await self.connection.execute("HKEYS", self.keys.condemned_notes)
        assert sorted(found) == sorted(notes)
        return sorted(name.decode() for name in found)

    async def left(self) -> dict[str, int]:
        counts = {"leases": await self.connection.execute("ZCARD", self.keys.leases)}
        for priority in Priority:
            stream = self.keys.requests(priority)
            counts[priority.value] = await self.connection.execute("XLEN", stream)
            pending = await self.connection.execute("XPENDING", stream, GROUP)
            counts[f"{priority.value} pending"] = pending[0]
        return {name: count for name, count in counts.items() if count}

    async def flush(self) -> None:
        await self.connection.execute("FLUSHALL")


def _said(entry: Mapping[str, bytes]) -> Said:
    return entry["request_id"].decode(), entry["state"].decode(), entry["event"].decode()


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    """Those of `Keys.lasting`, and what belongs to a request that a test leaves under way."""
    lasting = sorted(Keys("n").lasting)
    return (*(name.removeprefix("{n}:") for name in lasting), "allocation:*", "internal:record:*")


@pytest.fixture
def twin() -> TwinHouse:
    return TwinHouse()


@pytest.fixture
def streams(connection: RedisConnection, redis_server: TestServer, namespace: str) -> StreamsHouse:
    return StreamsHouse(connection, redis_server, namespace)


@pytest.fixture
def twin_class() -> type[TwinHouse]:
    """For a test that makes its own houses."""
    return TwinHouse


@pytest.fixture
def streams_class() -> type[StreamsHouse]:
    """For a house on a server of the test's own."""
    return StreamsHouse
