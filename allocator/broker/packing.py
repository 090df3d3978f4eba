"""What the scripts take and give, packed and unpacked: the Python half of each script's header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from pydantic_core import to_json

from allocator.broker.broker import (
    DOUBT_MS,
    Already,
    CommitReply,
    Condemned,
    Declined,
    Depth,
    Done,
    Duplicate,
    Ended,
    Ending,
    Entry,
    Faulty,
    Hold,
    IsCondemned,
    Lost,
    OtherBody,
    Refusal,
    Reservation,
    ReserveReply,
    Stale,
)
from allocator.broker.parking import Arrivals, Stay, Want
from allocator.contract.allocation import Attempt, decode_attempts, encode_attempts
from allocator.contract.keys import GROUP, REQUEST_FIELD, Keys
from allocator.contract.request import Priority

_REQUEST = REQUEST_FIELD.encode()
Words = list[str | int | bytes]


def entries(found: Iterable[Sequence[Any]], keys: Keys) -> list[Entry]:
    """Read `(stream, entry id, [field, value, ...])`; an entry deleted meanwhile has no fields and is passed over."""
    priorities = {keys.requests(priority).encode(): priority for priority in Priority}
    taken = []
    for stream, entry_id, fields in found:
        if fields is not None:
            taken.append(Entry(priorities[bytes(stream)], entry_id.decode(), _value_of(_REQUEST, fields)))
    return taken


def _value_of(name: bytes, fields: Sequence[bytes]) -> bytes | None:
    """The last value under this name in `[field, value, ...]`."""
    if len(fields) == 2 and fields[0] == name:
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(name)


def reserve(
    asks: Sequence[Reservation], fences: Sequence[str], keys: Keys, *, lease_ms: int, beat: int | None
) -> tuple[list[str], Words]:
    """Keys and arguments of `reserve.lua`."""
    named, args = [keys.leases, keys.history], Words([GROUP, lease_ms, "" if beat is None else beat])
    for ask, fence in zip(asks, fences, strict=True):
        entry = ask.entry
        named += [keys.requests(entry.priority), keys.record(ask.request_id), keys.allocation(ask.request_id)]
        args += [entry.entry_id, ask.request_id, fence, ask.digest, entry.raw or b"", ask.timeout_ms]
        args += [entry.priority.value, ask.context or "", ask.reply_to or "", "1" if ask.decline else ""]
    return named, args


def reserve_reply(ask: Reservation, fence: str, reply: Sequence[Any], *, loss_ms: int) -> ReserveReply:
    """Read one item of `reserve.lua`'s reply."""
    match reply[0]:
        case b"reserved":
            entry = ask.entry
            hold = Hold(ask.request_id, fence, entry.entry_id, entry.priority, reply[1], entry.raw or b"")
            return replace(hold, doubtful=True) if entry.enqueued_at_ms < loss_ms + DOUBT_MS else hold
        case b"ended":
            pairs = [word.decode(errors="replace") for word in reply[2]]  # others may write to a public hash
            return Ended(reply[1].decode(), dict(zip(pairs[::2], pairs[1::2], strict=True)))
        case b"duplicate":
            return Duplicate()
        case b"conflict":
            return OtherBody()
        case b"lost":
            return Lost()
        case b"declined":
            return Declined()
        case _:
            return Faulty(f"the record of {ask.request_id} cannot be used: {reply[1].decode()}")


def reclaimed(reply: Sequence[bytes], *, loss_ms: int) -> Hold:
    """Read one item of `reclaim.lua`'s reply, or what `seize.lua` or `claim_parked.lua` took over."""
    request_id, raw, fence, generation, deadline_ms, entry_id, priority, takes, clean, attempts, trail = reply
    return Hold(
        request_id=request_id.decode(),
        fence=fence.decode(),
        entry_id=entry_id.decode(),
        priority=Priority(priority.decode()),
        deadline_ms=int(deadline_ms),
        raw=raw,
        generation=int(generation),
        takes=int(takes),
        uncertain=not clean,
        attempts=_attempts(attempts) if attempts else (),
        doubtful=int(entry_id.partition(b"-")[0]) < loss_ms + DOUBT_MS,
        trail=trail.decode(errors="replace"),
    )


def _attempts(text: bytes) -> tuple[Attempt, ...]:
    """Those of the public hash; what somebody else has written there costs this request its past and others nothing."""
    try:
        return decode_attempts(text.decode())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def park(stays: Sequence[Stay], keys: Keys, *, now_ms: int) -> tuple[list[str], Words]:
    """Keys and arguments of `park.lua`."""
    named, args = [keys.leases, keys.parked, keys.lot_names], Words([keys.lots, now_ms])
    for stay in stays:
        hold = stay.hold
        named += [keys.record(hold.request_id), keys.allocation(hold.request_id)]
        args += [hold.request_id, hold.fence, stay.wake_ms, "\n".join(stay.lots)]
        args += [encode_attempts(stay.attempts) if stay.attempts else ""]
        args += [stay.code.value if stay.code else "", stay.message, stay.trail]
    return named, args


def claim(wants: Sequence[Want], count: int, keys: Keys, *, fence: str, lease_ms: int) -> tuple[list[str], Words]:
    """Keys and arguments of `claim_parked.lua`."""
    args = Words([keys.record(""), keys.allocation(""), keys.lots, f"{fence}.", lease_ms, count])
    for want in wants:
        args += [want.lot, want.count]
    return [keys.parked, keys.leases, keys.lot_turns, keys.lot_names], args


def arrivals(reply: Sequence[Any], wants: Sequence[Want], *, loss_ms: int) -> Arrivals:
    """Read the reply of `claim_parked.lua`."""
    if len(reply) == 1:
        return Arrivals()
    parked, holds, counts = reply
    size = len(Priority)
    waiting = {
        want.lot: dict(zip(Priority, counts[start : start + size], strict=True))
        for want, start in zip(wants, range(0, len(counts), size), strict=True)
        if any(counts[start : start + size])
    }
    arrived = tuple((reclaimed(each, loss_ms=loss_ms), wants[number].lot) for number, *each in holds)
    return Arrivals(arrived, waiting, parked)


def commit(
    endings: Sequence[Ending],
    keys: Keys,
    *,
    now_ms: int,
    oldest: str,
    results_ttl_ms: int,
    oldest_dead_letter: str,
) -> tuple[list[str], Words]:
    """Keys and arguments of `commit.lua`."""
    named = [keys.leases, keys.results, keys.condemned, keys.condemned_notes, keys.dead_letters]
    args = Words([keys.results_for(""), oldest, results_ttl_ms, now_ms, oldest_dead_letter])
    for ending in endings:
        hold, session = ending.hold, ending.session
        named += [keys.record(hold.request_id), keys.allocation(hold.request_id)]
        args += [hold.request_id, hold.fence, ending.keep_ms]
        args += [session[1], f"{session[0]}/{session[1]}", ending.native_id or ""] if session else ["", "", ""]
        args += [ending.event, ending.bury.value if ending.bury else "", ending.trail]
        args += [to_json(list(chain.from_iterable(ending.fields.items()))), len(ending.condemn)]
        for each in ending.condemn:
            args += [member(each), each.reason]
    return named, args


def commit_reply(reply: Sequence[bytes]) -> CommitReply:
    """Read one item of `commit.lua`'s reply."""
    match reply[0]:
        case b"done":
            return Done()
        case b"already":
            return Already(reply[1].decode() or None)
        case b"condemned":
            return IsCondemned()
        case _:
            return Stale(reply[1].decode() or None, reply[2].decode() or None)


def refuse(
    refusal: Refusal,
    keys: Keys,
    *,
    oldest: str,
    results_ttl_ms: int,
    keep_ms: int,
    oldest_dead_letter: str,
    dead_letters_max: int,
) -> tuple[list[str], Words]:
    """Keys and arguments of `refuse.lua`."""
    entry, request_id = refusal.entry, refusal.request_id or ""
    named = [keys.requests(entry.priority), keys.results, keys.dead_letters]
    named += [keys.record(request_id), keys.allocation(request_id)]
    args = Words(
        [GROUP, entry.entry_id, request_id, keys.results_for(""), refusal.reply_to or "", oldest, results_ttl_ms]
    )
    args += [refusal.event, refusal.state]
    args += [refusal.code.value, refusal.message, entry.raw or b""] if refusal.bury else ["", "", ""]
    args += [oldest_dead_letter, dead_letters_max, refusal.failure_event, keep_ms]
    fields = refusal.failure or {}
    args.append(len(fields) * 2)
    args += chain.from_iterable(fields.items())
    return named, args


def member(condemned: Condemned) -> str:
    """The name of a session in the set of the condemned."""
    return f"{condemned.provider}/{condemned.session_id}"


def condemned(name: bytes, note: bytes, *, loss_ms: int) -> Condemned:
    """Read one item of `claim_condemned.lua`'s reply."""
    provider, _, session_id = name.decode().partition("/")
    since_ms, _, reason = note.decode().partition(" ")
    return Condemned(provider, session_id, reason, int(since_ms), before_loss=int(since_ms) <= loss_ms)


def depth(now_ms: int, length: int, pending: int, oldest: bytes) -> Depth:
    """Read one stream of `survey.lua`'s reply."""
    waited_ms = now_ms - int(oldest.partition(b"-")[0]) if oldest else 0
    return Depth(untaken=max(0, length - pending), pending=pending, oldest_seconds=max(0, waited_ms) / 1000)
