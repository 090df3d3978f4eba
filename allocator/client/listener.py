"""One reader of the results stream for all that wait.

In: waiters. Out: each answered once. Promises: none misses its end. The order is what keeps that: the reader has a
fixed place in the stream, then the hash is read, then events count. What comes between is in one of the two.

Two loops run while anyone waits, and end with the last:

    listening   XREAD from the last id seen; through a restart of Redis it goes on from there
    sweeping    the hash of each new wait at once, and of every wait every few seconds: what answers when the event is
                gone (the stream flushed, trimmed, or cut short by a failover)

While Redis is away both try again, with jitter. A fault that does not pass by itself (credentials, rights) is the
answer of everyone who waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from allocator.client.errors import UnreadableAnswerError
from allocator.client.outbox import Submitted
from allocator.client.waiter import Refusal, Waiter, read_event, read_hash
from allocator.contract.allocation import Allocation
from allocator.contract.keys import Keys
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import BLOCK_MS_MAX, RedisConnection, Word
from allocator.redis_io.errors import CommandFault, RedisFault, Unavailable

CLOSED = "the client was closed while this waited; the request goes on: wait for it again"
SWEEP_SECONDS = 3.0
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.05, 2.0
LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 0.001, 0.1
READ_COUNT = 1000
"""Events a read, and hashes a round trip: some 20 ms of this process's time, in which others have to wait."""

Position = tuple[int, int]


class Listener:
    """Answers the waiters of one namespace."""

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        *,
        sweep_seconds: float = SWEEP_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._sweep_seconds = sweep_seconds
        self._chance = chance
        self._waiters: dict[str, set[Waiter]] = {}
        self._fresh: dict[str, None] = {}
        """Ids whose hash is to be read at once, in the order in which they came."""
        self._freshened = asyncio.Event()
        self._position: Position | None = None
        self._fixing: Batcher[None, None] = Batcher(self._fix, items_max=2**31, in_flight_max=1)
        self._loops: dict[str, asyncio.Task[None]] = {}

    @contextlib.contextmanager
    def waiter(self, request_id: str, *, in_doubt: bool = False) -> Iterator[Waiter]:
        """A wait that is attended to as long as this lasts; one that begins `in_doubt` waits for `sent` first."""
        waiter = Waiter(request_id, asyncio.get_running_loop().create_future(), in_doubt)
        self._waiters.setdefault(request_id, set()).add(waiter)
        if not in_doubt:
            self._freshen(request_id)
        self._keep_going("listening", self._listen)
        self._keep_going("sweeping", self._sweep)
        try:
            yield waiter
        finally:
            waiter.forget()
            self._waiters[request_id].discard(waiter)
            if not self._waiters[request_id]:
                del self._waiters[request_id]
                self._fresh.pop(request_id, None)

    def sent(self, waiter: Waiter, submitted: Submitted) -> None:
        """Tell a wait which entry is its own, and look at once whether that has an answer already."""
        waiter.sent(submitted)
        self._freshen(waiter.request_id)

    async def settled(self, waiter: Waiter) -> Submitted:
        """Return once the entry of this wait is settled, which takes milliseconds; RefusedError where it is refused.

        While Redis is away it goes on asking.
        """
        waiter.in_doubt, seconds = True, LOOK_SECONDS_MIN  # a new id can be refused too, by `overloaded`
        while waiter.in_doubt and not waiter.answer.done():
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, LOOK_SECONDS_MAX)
            with contextlib.suppress(Unavailable):
                await self._clear_doubts([waiter.request_id])
        if waiter.answer.done():
            waiter.answer.result()
        return waiter.own

    async def fix_position(self) -> None:
        """Return once no event that is still to come can be missed; Unavailable while Redis is."""
        if self._position is None:
            await self._fixing.submit(None)

    async def aclose(self) -> None:
        """Stop listening; whoever still waits is told so."""
        while going := [loop for loop in self._loops.values() if not loop.done()]:
            for loop in going:
                loop.cancel()
            # And again: redis-py swallows a cancellation that comes while it connects.
            await asyncio.wait(going, timeout=0.05)
        self._fail_all(RuntimeError(CLOSED))
        await self._fixing.aclose()

    def _keep_going(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running = self._loops.get(name)
        if running is None or running.done():
            self._loops[name] = asyncio.create_task(loop(), name=f"allocator client: {name}")
            self._loops[name].add_done_callback(self._ended)

    def _ended(self, loop: asyncio.Task[None]) -> None:
        if not loop.cancelled() and (error := loop.exception()) is not None:
            self._fail_all(error)

    def _fail_all(self, error: BaseException) -> None:
        for waiting in self._waiters.values():
            for waiter in waiting:
                waiter.fail(error)

    def _freshen(self, request_id: str) -> None:
        self._fresh[request_id] = None
        self._freshened.set()

    async def _listen(self) -> None:
        pauses = self._pauses()
        while self._waiters:
            try:
                await self.fix_position()
                reply = await self._connection.execute_blocking(*self._read_on("BLOCK", BLOCK_MS_MAX))
            except Unavailable:
                await asyncio.sleep(next(pauses))
            else:
                pauses = self._pauses()
                self._take_in(reply)
        # Nobody waits: the next to come begins at what is then the end, rather than with all that passed meanwhile.
        self._position = None

    async def _sweep(self) -> None:
        loop, pauses, due_at = asyncio.get_running_loop(), self._pauses(), 0.0
        while self._waiters:
            is_due = loop.time() >= due_at
            request_ids = list(self._waiters if is_due else self._fresh)
            self._fresh.clear()
            self._freshened.clear()
            try:
                await self.fix_position()
                if is_due:
                    await self._notice_lost_history()
                for start in range(0, len(request_ids), READ_COUNT):
                    await self._read_hashes(request_ids[start : start + READ_COUNT])
            except Unavailable:
                due_at = 0.0  # what was not read now is read then
                await asyncio.sleep(next(pauses))
                continue
            pauses = self._pauses()
            if is_due:
                due_at = loop.time() + self._sweep_seconds * (0.75 + self._chance() / 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._freshened.wait()

    def _pauses(self) -> Iterator[float]:
        seconds = RETRY_SECONDS_MIN
        while True:
            yield seconds * (0.5 + self._chance() / 2)
            seconds = min(2 * seconds, RETRY_SECONDS_MAX)

    async def _fix(self, asked: list[None]) -> list[None]:
        if self._position is None:
            self._position = await self._last_position()
        return asked

    async def _last_position(self) -> Position:
        newest = await self._connection.execute("XREVRANGE", self._keys.results, "+", "-", "COUNT", 1)
        return _position(newest[0][0]) if newest else (0, 0)

    async def _notice_lost_history(self) -> None:
        """Go back to the stream's end where that lies before our place: its past is another one now.

        A trimmed stream looks the same where nothing is left of it; reading that from its start is harmless.
        """
        last = await self._last_position()
        if self._position is not None and last < self._position:
            self._position = last

    def _read_on(self, *block: Word) -> tuple[Word, ...]:
        milliseconds, sequence = self._position or (0, 0)
        return ("XREAD", "COUNT", READ_COUNT, *block, "STREAMS", self._keys.results, f"{milliseconds}-{sequence}")

    def _take_in(self, reply: Any) -> int:
        """Let a reply to XREAD answer who waits for it; return how many events it held."""
        entries = reply[0][1] if reply else []
        for _, pairs in entries:
            words = dict(zip(pairs[::2], pairs[1::2], strict=True))
            request_id = words.get(b"request_id", b"").decode(errors="replace")
            if request_id in self._waiters:
                self._announce(request_id, words.get(b"event", b""))
        if entries:
            self._position = max(self._position or (0, 0), _position(entries[-1][0]))
        return len(entries)

    def _announce(self, request_id: str, event: bytes) -> None:
        waiting = self._waiters[request_id]
        match read_event(event):
            case Refusal() as refusal:
                for waiter in waiting:
                    waiter.refuse(refusal)
                return
            case Allocation(final=True) as allocation:
                for waiter in waiting:
                    waiter.end(allocation)
        # Not to be read here, or still in doubt: the hash has to tell.
        if not all(waiter.answer.done() for waiter in waiting):
            self._freshen(request_id)

    async def _read_hashes(self, request_ids: Sequence[str]) -> None:
        """Answer those of these ids that have come to an end."""
        await self._clear_doubts(request_ids)
        finals = await self._ask(request_ids, "HGET", "final")
        ended = [request_id for request_id, reply in finals if reply == b"1"]
        for request_id, reply in await self._ask(ended, "HGETALL"):
            try:
                allocation = read_hash(request_id, reply)
            except UnreadableAnswerError as error:
                self._fail(request_id, error)
                continue
            if allocation is not None and allocation.final:
                for waiter in self._waiters.get(request_id, ()):
                    waiter.end(allocation)

    async def _ask(self, request_ids: Sequence[str], verb: str, *rest: str) -> list[tuple[str, Any]]:
        """Ask one thing of each of these hashes; a key that holds something else fails only who waits for it."""
        commands = [(verb, self._keys.allocation(request_id), *rest) for request_id in request_ids]
        answered = []
        for request_id, reply in zip(request_ids, await self._connection.execute_many(commands), strict=True):
            match reply:
                case CommandFault() as fault:
                    self._fail(request_id, fault)
                case RedisFault() as fault:
                    raise fault
                case _:
                    answered.append((request_id, reply))
        return answered

    def _fail(self, request_id: str, error: Exception) -> None:
        for waiter in self._waiters.get(request_id, ()):
            waiter.fail(error)

    async def _clear_doubts(self, request_ids: Sequence[str]) -> None:
        """Let an end count for those whose own entry is settled without a refusal.

        A refusal is announced in the step that settles the entry. So if the entry is gone, and all that was announced
        by then has been read, it was not refused.
        """
        doubtful = [
            (waiter, waiter.submitted)
            for request_id in request_ids
            for waiter in self._waiters.get(request_id, ())
            if waiter.in_doubt and waiter.submitted is not None
        ]
        if not doubtful:
            return
        looks: list[tuple[Word, ...]] = [("XRANGE", own.stream, own.entry_id, own.entry_id) for _, own in doubtful]
        *entries, announced = await self._connection.execute_many([*looks, self._read_on()])
        for reply in (*entries, announced):
            if isinstance(reply, RedisFault):
                raise reply
        if self._take_in(announced) < READ_COUNT:
            for (waiter, _), entry in zip(doubtful, entries, strict=True):
                waiter.in_doubt = bool(entry)


def _position(entry_id: bytes) -> Position:
    milliseconds, _, sequence = entry_id.decode().partition("-")
    return int(milliseconds), int(sequence)
