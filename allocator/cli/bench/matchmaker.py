"""The matchmaker of a bench: sends at the moments that were set beforehand, and reads every answer.

In: a load, a namespace. Out: for each match when it was to be sent and when its answer was read, and some of the
announcements. A match that is sent late counts from the moment it was to be sent, so that a stall that holds up the
bench itself shows in the figures (no coordinated omission). One reader of the results stream learns of all answers.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from allocator.cli.bench.bare import ANSWERED
from allocator.cli.bench.pace import Pace
from allocator.cli.bench.plan import Backlog, Load, OpenLoop, Waiting
from allocator.contract.keys import REQUEST_FIELD, Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection

SENT_AT_ONCE = 500
READ_AT_ONCE = 1000
BLOCK_MS = 500
EVENTS_KEPT = 20_000
_UNANSWERED = 0.0
_WARM_SHARE = 0.1


class Matchmaker:
    """All matches of one round."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, regions: Sequence[str], load: Load, *, pace: Pace | None = None
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._stream = keys.requests(Priority.NORMAL)
        self._regions = regions
        self.load = load
        self._name = secrets.token_hex(4)
        """What its matches' ids begin with; others may have been served under these keys before."""
        self._last_read = b"0"
        self._pace = pace or Pace()
        self._changed = asyncio.Event()
        self.wanted = load.matches
        """Answers that end the round."""
        self.warm = max(1, round(self.wanted * _WARM_SHARE))
        """The first tenth warms up and is not counted."""
        self.due_at = array("d")
        self.answered_at = array("d")
        self.lateness_seconds: list[float] = []
        self.states: Counter[str] = Counter()
        self.events: list[tuple[int, bytes]] = []
        """By the number of the match, what was announced of some."""
        self.commands = 0
        """Sent to Redis by this matchmaker."""

    @property
    def answered(self) -> int:
        """How many have their answer."""
        return self.states.total()

    async def open(self) -> None:
        """Note where the results stream ends now: what it holds is not this matchmaker's."""
        found = await self._connection.execute("XREVRANGE", self._keys.results, "+", "-", "COUNT", 1)
        self._last_read = found[0][0] if found else b"0"

    async def until_answered(self, number: int) -> None:
        """Return once so many have their answer."""
        while self.answered < number:
            self._changed.clear()
            await self._changed.wait()

    async def fill(self) -> None:
        """Send what is to wait before anyone serves: of a `Waiting` load."""
        if isinstance(self.load, Waiting):
            await self._send_now(self.load.waiting)

    async def send(self) -> None:
        """Send all that the load says, each at its moment; after `fill`."""
        match self.load:
            case OpenLoop():
                await self._send_at(self.load.moments())
            case Backlog(matches):
                await self._send_now(matches)
            case Waiting(waiting, matches):
                while self.answered < matches:
                    await self.until_answered(len(self.due_at) - waiting + 1)
                    await self._send_now(self.answered + waiting - len(self.due_at))

    async def read(self) -> None:
        """Read answers until cancelled."""
        while True:
            read = ("XREAD", "COUNT", READ_AT_ONCE, "BLOCK", BLOCK_MS, "STREAMS", self._keys.results, self._last_read)
            reply = await self._connection.execute_blocking(*read)
            self.commands += 1
            now = self._pace.now()
            for entry_id, fields in reply[0][1] if reply else ():
                self._last_read = entry_id
                self._hear(fields, now)
            self._changed.set()

    def _hear(self, fields: list[bytes], now: float) -> None:
        if fields[0] == ANSWERED.encode():
            for name in fields[1].split():
                self._answer(name, "allocated", now)
            return
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        number = self._answer(named[b"request_id"], named[b"state"].decode(), now)
        if number is not None and len(self.events) < EVENTS_KEPT:
            self.events.append((number, named[b"event"]))

    def _answer(self, name: bytes, state: str, now: float) -> int | None:
        """Count one answer; which match of the round it is for, where it counts in the figures."""
        sender, _, number_text = name.rpartition(b"-")
        number = int(number_text)
        if sender != self._name.encode() or self.answered_at[number] != _UNANSWERED:
            return None  # announced again, maybe for one who asked before under the same keys
        self.answered_at[number] = now
        self.states[state] += 1
        return number if self.answered > self.warm else None

    async def _send_now(self, matches: int) -> None:
        while matches > 0:
            some = min(matches, SENT_AT_ONCE)
            await self._send([self._pace.now()] * some, self._requests(some))
            matches -= some

    async def _send_at(self, moments: Sequence[float]) -> None:
        requests = self._requests(len(moments))  # made beforehand: sending is not to cost the others their core
        since, sent = self._pace.now(), 0
        with self._pace:
            while sent < len(moments):
                await self._pace.until(since + moments[sent])
                end = min(bisect_right(moments, self._pace.now() - since, sent), sent + SENT_AT_ONCE)
                await self._send([since + moment for moment in moments[sent:end]], requests[sent:end])
                sent = end

    async def _send(self, due_at: Sequence[float], requests: Sequence[str]) -> None:
        now = self._pace.now()
        self.due_at.extend(due_at)
        self.answered_at.extend([_UNANSWERED] * len(due_at))
        self.lateness_seconds.extend(now - at for at in due_at)
        self.commands += len(due_at)
        replies = await self._connection.execute_many(
            [("XADD", self._stream, "*", REQUEST_FIELD, request) for request in requests]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply

    def _requests(self, count: int) -> list[str]:
        """The next ones to be sent."""
        first = len(self.due_at)
        return [self._request(number) for number in range(first, first + count)]

    def _request(self, number: int) -> str:
        count = len(self._regions)
        regions = [self._regions[(number + place) % count] for place in range(min(2, count))]
        return json.dumps({"id": f"{self._name}-{number}", "image": "bench", "regions": regions})
