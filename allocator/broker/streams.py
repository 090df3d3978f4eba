"""The broker on Redis: each step one script, steps of one loop turn in one round trip.

In: the port's values. Out: the port's replies. Promises: a step is sent once, and repeated only by its caller; faults
of the wire are `BrokerUnavailable`. The scripts hold what is atomic; here is only the packing and unpacking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from allocator.broker import packing
from allocator.broker.broker import (
    BATCH_MAX,
    FIRST_STOP_MS,
    NEVER_MS,
    SUSPECT_TAKES,
    CommitReply,
    Condemned,
    Depth,
    Ending,
    Entry,
    Hold,
    NamespaceTaken,
    Refusal,
    Reservation,
    ReserveReply,
    Survey,
)
from allocator.broker.fences import Fences
from allocator.broker.steps import BLOCK_MS, Steps
from allocator.contract.allocation import Attempt, encode_attempts
from allocator.contract.codes import Code
from allocator.contract.keys import CONTRACT_VERSION, GROUP, Keys
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.scripts import Script
from allocator.redis_io.server import check_server

DEAD_LETTER_AGE_SECONDS = 7 * 24 * 3600
DEAD_LETTERS_MAX = 10_000

_SCRIPTS = {
    name: Script.load("allocator.broker.scripts", name)
    for name in (
        "prepare",
        "history",
        "take",
        "reserve",
        "renew",
        "reclaim",
        "begin",
        "next_generation",
        "note",
        "commit",
        "refuse",
        "hand_back",
        "claim_condemned",
        "recheck",
        "survey",
        "leave",
    )
}


class StreamsBroker:
    """One namespace on one Redis, seen by one worker process. `worker` is its name in the consumer group."""

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        *,
        deployment: str,
        worker: str,
        lease_ms: int,
        result_ttl_ms: int,
        results_max_age_ms: int,
        fence: Callable[[], str],
        partitions: Partitions | None = None,
    ) -> None:
        """`fence` gives a text that is never given twice by any process; `partitions` are those that `keys` is of."""
        self.steps = Steps(connection, self.prepare)
        self._keys = keys
        self._deployment = deployment
        self._worker = worker
        self._partitions = partitions or Partitions(keys.namespace)
        self._lease_ms = lease_ms
        self._result_ttl_ms = result_ttl_ms
        self._results_max_age_ms = results_max_age_ms
        self._fences = Fences(fence)
        self._offset_ms = int((time.time() - time.monotonic()) * 1000)
        self._beat: int | None = None
        self._loss_ms = self._proven_ms = NEVER_MS
        self._commits = Batcher(self._commit_batch, items_max=BATCH_MAX)
        self._looks: Batcher[None, int] = Batcher(self._look_back, items_max=2**31, in_flight_max=1)
        self._notes = Batcher(self._note_batch, items_max=BATCH_MAX)

    def now_ms(self) -> int:
        """Redis time, as of its last reply and this machine's clock since: one that nobody sets."""
        return int(time.monotonic() * 1000) + self._offset_ms

    def loss_ms(self) -> int:
        """When Redis lost something last, as far as `look_back` saw; NEVER_MS where it never did."""
        return self._loss_ms

    async def prepare(self) -> None:
        """See `Broker.prepare`; UnfitServer where the server may not be used."""
        async with self.steps.asking():
            await check_server(await self.steps.connection.server_of(self._keys.meta))
        if self._partitions.count > 1:
            # First of all the whole's: a partition of another split must not be made.
            await self._claim(self._partitions.whole, [])
        await self._claim(self._keys, [*self._streams(), self._keys.cancellations])

    async def _claim(self, keys: Keys, streams: Sequence[str]) -> None:
        """Make a namespace ours, or see that it is."""
        count, name = self._partitions.count, keys.namespace
        args = [CONTRACT_VERSION, self._deployment, GROUP, count]
        now_ms, contract, deployment, partitions = await self._run("prepare", [keys.meta, *streams], args)
        self._saw_time(now_ms)
        if deployment.decode() != self._deployment:
            raise NamespaceTaken(
                f"namespace {name!r} belongs to the deployment {deployment.decode()!r}: "
                f"set deployment to that, or choose another namespace"
            )
        if int(contract) > CONTRACT_VERSION:
            raise NamespaceTaken(f"namespace {name!r} speaks contract {int(contract)}: upgrade this worker")
        if int(partitions) != count:
            raise NamespaceTaken(
                f"namespace {name!r} was made with partitions = {int(partitions)}, which cannot change, "
                f"and the settings say {count}: set partitions to {int(partitions)}, or choose another namespace"
            )

    async def look_back(self) -> int:
        """See `Broker.look_back`; many who ask at once ask together."""
        return await self._looks.submit(None)

    async def _look_back(self, asked: list[None]) -> list[int]:
        beat = "" if self._beat is None else self._beat
        now_ms, loss_ms, proven_ms, self._beat = await self._run("history", [self._keys.history], [beat])
        self._loss_ms, self._proven_ms = loss_ms or NEVER_MS, proven_ms or NEVER_MS
        self._saw_time(now_ms)
        return [self._loss_ms] * len(asked)

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        """See `Broker.take`."""
        keys = [self._keys.requests(priority) for priority in order]
        reply = await self._run("take", keys, [GROUP, self._worker, count])
        return packing.entries(reply, self._keys)

    async def wait(self, count: int) -> list[Entry]:
        """See `Broker.wait`; `count` is shared out evenly over the streams."""
        streams = [self._keys.requests(priority) for priority in Priority]
        share = max(1, count // len(streams))
        async with self.steps.asking():
            reply = await self.steps.connection.execute_blocking(
                *("XREADGROUP", "GROUP", GROUP, self._worker, "COUNT", share, "BLOCK", BLOCK_MS),
                *("STREAMS", *streams, *[">"] * len(streams)),
            )
        return packing.entries([(stream, *entry) for stream, found in reply or () for entry in found], self._keys)

    async def strays(self, count: int, idle_ms: int) -> list[Entry]:
        """See `Broker.strays`."""
        found: list[Any] = []
        async with self.steps.asking():
            for stream in (self._keys.requests(priority) for priority in Priority):
                if (room := count - len(found)) > 0:
                    reply = await self.steps.connection.execute(
                        "XAUTOCLAIM", stream, GROUP, self._worker, idle_ms, "0-0", "COUNT", room
                    )
                    found.extend((stream.encode(), *entry) for entry in reply[1])
        return packing.entries(found, self._keys)

    async def reserve(self, asks: Sequence[Reservation]) -> list[ReserveReply]:
        """See `Broker.reserve`. Repeated for an entry, it uses the fence of the first time."""
        fences = self._fences.of(asks)
        keys, args = packing.reserve(asks, fences, self._keys, lease_ms=self._lease_ms, beat=self._beat)
        now_ms, since_ms, proven_ms, unnoticed, *replies = await self._run("reserve", keys, args)
        self._saw_time(now_ms)
        # What was lost a moment ago is to be doubted now: a look back once a second would come too late for these.
        self._loss_ms = max(self._loss_ms, since_ms or NEVER_MS)
        self._proven_ms = max(self._proven_ms, proven_ms or NEVER_MS)
        if unnoticed:
            await self.look_back()
        return [
            packing.reserve_reply(ask, fence, each, loss_ms=self._loss_ms)
            for ask, fence, each in zip(asks, fences, replies, strict=True)
        ]

    async def reclaim(self, count: int) -> list[Hold]:
        """See `Broker.reclaim`."""
        prefixes = [self._keys.record(""), self._keys.allocation("")]
        fence, many = f"{self._fences.new()}.", min(count, BATCH_MAX)
        args = [*prefixes, fence, many, self._lease_ms, self._keys.lots, SUSPECT_TAKES]
        reply = await self._run("reclaim", [self._keys.leases, self._keys.parked], args)
        self._saw_time(reply[0])
        return [packing.reclaimed(each, loss_ms=self._loss_ms) for each in reply[1:]]

    async def begin(self, hold: Hold) -> bool:
        """See `Broker.begin`."""
        return bool(await self._run("begin", [self._keys.record(hold.request_id)], [hold.fence]))

    async def renew(self, holds: Sequence[Hold]) -> list[bool]:
        """See `Broker.renew`."""
        kept: list[bool] = []
        for batch in _batches(holds):
            keys = [self._keys.leases, *(self._keys.record(hold.request_id) for hold in batch)]
            args = [self._lease_ms, *(word for hold in batch for word in (hold.request_id, hold.fence))]
            kept.extend(bool(each) for each in await self._run("renew", keys, args))
        return kept

    async def note(self, hold: Hold, attempts: tuple[Attempt, ...], code: Code, message: str) -> bool:
        """See `Broker.note`."""
        return await self._notes.submit((hold, encode_attempts(attempts), code.value, message))

    async def next_generation(self, hold: Hold, condemned: Sequence[Condemned]) -> int | None:
        """See `Broker.next_generation`."""
        keys = [self._keys.record(hold.request_id), self._keys.condemned, self._keys.condemned_notes]
        reason = condemned[0].reason if condemned else ""
        args = [hold.fence, hold.generation, FIRST_STOP_MS, reason, *map(packing.member, condemned)]
        return await self._run("next_generation", keys, args) or None

    async def commit(self, ending: Ending) -> CommitReply:
        """See `Broker.commit`."""
        return await self._commits.submit(ending)

    async def refuse(self, refusal: Refusal) -> bool:
        """See `Broker.refuse`."""
        now_ms = self.now_ms()
        keys, args = packing.refuse(
            refusal,
            self._keys,
            oldest=f"{now_ms - self._results_max_age_ms}-0",
            results_ttl_ms=self._results_max_age_ms,
            keep_ms=self._result_ttl_ms,
            oldest_dead_letter=f"{now_ms - DEAD_LETTER_AGE_SECONDS * 1000}-0",
            dead_letters_max=DEAD_LETTERS_MAX,
        )
        return bool(await self._run("refuse", keys, args) == b"failed")

    async def hand_back(self, holds: Sequence[tuple[Hold, bool]]) -> None:
        """See `Broker.hand_back`."""
        for batch in _batches(holds):
            keys = [self._keys.leases, *(self._keys.record(hold.request_id) for hold, _ in batch)]
            args = [word for hold, clean in batch for word in (hold.request_id, hold.fence, "1" if clean else "")]
            await self._run("hand_back", keys, args)

    async def claim_condemned(self, count: int, hold_ms: int) -> list[Condemned]:
        """See `Broker.claim_condemned`."""
        reply = await self._run("claim_condemned", [self._keys.condemned, self._keys.condemned_notes], [count, hold_ms])
        self._saw_time(reply[0])
        return [packing.condemned(*each, loss_ms=self._proven_ms) for each in reply[1:]]

    async def recheck(self, condemned: Condemned, after_ms: int | None) -> None:
        """See `Broker.recheck`."""
        again: str | int = "" if after_ms is None else after_ms
        await self._run(
            "recheck", [self._keys.condemned, self._keys.condemned_notes], [packing.member(condemned), again]
        )

    async def survey(self) -> Survey:
        """See `Broker.survey`."""
        streams = [self._keys.requests(priority) for priority in Priority]
        keys = [self._keys.leases, self._keys.condemned, self._keys.parked, *streams]
        now_ms, held, condemned, parked, *depths = await self._run("survey", keys, [GROUP])
        self._saw_time(now_ms)
        found: Mapping[Priority, Depth] = {
            priority: packing.depth(now_ms, *each) for priority, each in zip(Priority, depths, strict=True)
        }
        return Survey(held=held, condemned=condemned, depths=found, parked=parked)

    async def close(self) -> None:
        """See `Broker.close`; names of others that died with nothing pending go as well."""
        await self._looks.aclose()
        await self._commits.aclose()
        await self._notes.aclose()
        await self._run("leave", [*self._streams(), self._keys.cancellations], [GROUP, self._worker])

    async def _commit_batch(self, endings: list[Ending]) -> list[CommitReply]:
        now_ms = self.now_ms()
        keys, args = packing.commit(
            endings,
            self._keys,
            now_ms=now_ms,
            oldest=f"{now_ms - self._results_max_age_ms}-0",
            results_ttl_ms=self._results_max_age_ms,
            oldest_dead_letter=f"{now_ms - DEAD_LETTER_AGE_SECONDS * 1000}-0",
        )
        return [packing.commit_reply(each) for each in await self._run("commit", keys, args)]

    async def _note_batch(self, notes: list[tuple[Hold, str, str, str]]) -> list[bool]:
        keys = [
            key
            for hold, *_ in notes
            for key in (self._keys.record(hold.request_id), self._keys.allocation(hold.request_id))
        ]
        now_ms = self.now_ms()
        args = [word for hold, *texts in notes for word in (hold.fence, *texts, now_ms)]
        return [bool(each) for each in await self._run("note", keys, args)]

    def _streams(self) -> list[str]:
        return [self._keys.requests(priority) for priority in Priority]

    def _saw_time(self, now_ms: int) -> None:
        self._offset_ms = now_ms - int(time.monotonic() * 1000)

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self.steps.run(_SCRIPTS[name], keys, args)


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH_MAX] for start in range(0, len(items), BATCH_MAX)]
