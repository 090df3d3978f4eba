"""The life of one match, as Redis keeps it: what befell it, step by step, and how it stands now.

In: settings, of which redis.url and namespace count, and an id. Out: a `Life`, or None for an id that nobody knows.
It is made of the allocation's hash, the broker's record of the request and its lease. The record's `trail` is what the
engine found worth telling: a JSON list of steps, of which each that can be read is passed on as it is, known here or
not. Without a trail there was nothing to tell: the regions were tried in the order named and none was left out.

Of a body, nothing is passed on but the regions; it is gone once the request has ended. What Redis does wrong is its
`RedisFault`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allocator.client.waiter import read_hash
from allocator.contract.allocation import FINAL, Allocation, Attempt, State
from allocator.contract.keys import Keys
from allocator.contract.request import Decoded, decode_request
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import RedisFault
from allocator.service.records import known_partitions
from allocator.service.settings import Settings

AT_MS_MAX = 2**47
"""Past the year 6000: what says that it came later says nothing."""
_OWN = frozenset({"taken", "attempt", *FINAL})
_KEPT = ("deadline", "generation", "takes", "trail", "parked", "body")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that befell the request; `facts` are JSON values, and a reader passes over what it does not know."""

    at_ms: int
    name: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parked:
    """It waits in Redis until it is called from one of these lots, or looked at again."""

    lots: tuple[str, ...]
    until_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """A worker has it, by a lease that ends then."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Unheld:
    """No worker has it: its lease is over, and the next one that looks takes it over."""


@dataclass(frozen=True, slots=True)
class Untaken:
    """It was submitted and no worker has taken it up."""


Standing = Parked | Held | Unheld | Untaken


@dataclass(frozen=True, slots=True)
class Life:
    """One match. `standing` while it is under way, `regions` while its body is kept and where it names any."""

    allocation: Allocation
    steps: tuple[Step, ...]
    now_ms: int
    standing: Standing | None = None
    regions: tuple[str, ...] = ()
    deadline_ms: int | None = None
    generation: int | None = None
    takes: int | None = None


async def read_life(settings: Settings, request_id: str) -> Life | None:
    """Read it over a connection of its own. RedisUrlError: redis.url cannot be understood."""
    async with await connect(settings.redis.url.get_secret_value(), name="explain") as connection:
        partitions = await known_partitions(connection, settings)
        return await life_of(connection, partitions.of(request_id), request_id)


async def life_of(connection: RedisConnection, keys: Keys, request_id: str) -> Life | None:
    """Read it in one round trip; None where nobody knows the id. UnreadableAnswerError: its hash is none of ours."""
    replies = await connection.execute_many(
        (
            ("HGETALL", keys.allocation(request_id)),
            ("HMGET", keys.record(request_id), *_KEPT),
            ("ZSCORE", keys.leases, request_id),
            ("TIME",),
        )
    )
    for reply in replies:
        if isinstance(reply, RedisFault):
            raise reply
    hashed, kept, lease, (seconds, microseconds) = replies
    allocation = read_hash(request_id, hashed)
    if allocation is None:
        return None
    record = {name: value for name, value in zip(_KEPT, kept, strict=True) if value is not None}
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    regions, deadline_ms = _regions(record), _number(record.get("deadline"))
    return Life(
        allocation=allocation,
        steps=_steps(allocation, record.get("trail", b""), regions, deadline_ms),
        now_ms=now_ms,
        standing=_standing(allocation, record, lease, now_ms),
        regions=regions,
        deadline_ms=deadline_ms,
        generation=_number(record.get("generation")),
        takes=_number(record.get("takes")),
    )


def _standing(allocation: Allocation, record: Mapping[str, bytes], lease: bytes | None, now_ms: int) -> Standing | None:
    if _has_ended(allocation):
        return None
    if lease is None:
        return Untaken() if allocation.state is State.QUEUED else Unheld()
    until_ms = int(float(lease))
    if until_ms <= now_ms:
        return Unheld()
    if "parked" in record:
        return Parked(tuple(record["parked"].decode(errors="replace").splitlines()), until_ms)
    return Held(until_ms)


def _regions(record: Mapping[str, bytes]) -> tuple[str, ...]:
    match decode_request(record.get("body", b"")):
        case Decoded(request):
            return request.regions or ()
        case _:
            return ()


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _steps(allocation: Allocation, trail: bytes, regions: Sequence[str], deadline_ms: int | None) -> tuple[Step, ...]:
    """All that is known, in the order in which it came about; at one moment the trail stands before the attempts."""
    between = [*_trail(trail), *(_attempt(attempt) for attempt in allocation.attempts)]
    between.sort(key=lambda step: step.at_ms)
    taken = []
    if allocation.enqueued_at is not None:
        facts = {"priority": allocation.priority, "regions": list(regions), "deadline_at": deadline_ms}
        taken = [Step(allocation.enqueued_at, "taken", _said(facts))]
    return (*taken, *between, *_ends(allocation))


def _trail(text: bytes) -> Iterator[Step]:
    """The steps that the engine wrote down; what cannot be read, or bears the name of one made here, is passed over."""
    try:
        written = json.loads(text)
        json.dumps(written, ensure_ascii=False).encode()  # half of a surrogate pair is no text to print
    except (ValueError, RecursionError):
        return
    for item in written if isinstance(written, list) else ():
        match item:
            case {"at": int(at_ms), "step": str(name)} if 0 < at_ms < AT_MS_MAX and name not in _OWN:
                yield Step(at_ms, name, {key: value for key, value in item.items() if key not in {"at", "step"}})


def _attempt(attempt: Attempt) -> Step:
    facts = {
        "region": attempt.region,
        "provider": attempt.provider,
        "location": attempt.location,
        "outcome": str(attempt.outcome),
        "status": attempt.status,
        "duration_ms": attempt.duration_ms,
        "waited_ms": attempt.waited_ms,
    }
    return Step(attempt.at, "attempt", facts)


def _ends(allocation: Allocation) -> Iterator[Step]:
    """The end, with the time from the entry to it, and what came after an allocation."""
    last_at = allocation.updated_at
    if not _has_ended(allocation) or last_at is None:
        return
    ended_at = last_at if allocation.allocated_at is None else allocation.allocated_at
    total_ms = None if allocation.enqueued_at is None else ended_at - allocation.enqueued_at
    failure = {
        "error_code": allocation.error_code,
        "error_message": allocation.error_message,
        "retry_after_ms": allocation.retry_after_ms,
    }
    place = {
        "endpoint": allocation.endpoint,
        "region": allocation.region,
        "provider": allocation.provider,
        "location": allocation.location,
        "session_id": allocation.session_id,
        "expires_at": allocation.expires_at,
    }
    if allocation.allocated_at is None:
        yield Step(ended_at, str(allocation.state), _said({**failure, "total_ms": total_ms}))
        return
    yield Step(ended_at, str(State.ALLOCATED), _said({**place, "total_ms": total_ms}))
    if allocation.state != State.ALLOCATED:
        yield Step(last_at, str(allocation.state), _said(failure))


def _has_ended(allocation: Allocation) -> bool:
    return allocation.final or allocation.state in FINAL


def _said(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that there are."""
    return {name: value for name, value in facts.items() if value is not None and value != []}
