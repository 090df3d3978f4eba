"""The ids of traces and spans: made from what Redis keeps of a request, so that every worker comes to the same.

In: a leg. Out: the trace that it belongs to, the caller's where the request names one, and the ids of its own span and
of the one it goes on from. Nothing has to be remembered for it: a worker that takes over a request of a dead one names
the dead one's span. Pure; needs no package but the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from allocator.engine.observer import Leg

_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Caller:
    """What a `traceparent` says: ids in hexadecimal, and whether the caller records the trace."""

    trace_id: str
    span_id: str
    sampled: bool


def caller_of(leg: Leg) -> Caller | None:
    """The caller's side of the trace, where the request names it."""
    if leg.traceparent is None:
        return None
    _, trace_id, span_id, flags = leg.traceparent.split("-")[:4]
    return Caller(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def recorded_by_caller(leg: Leg) -> str:
    """The trace id by which a caller finds this request, where it records it; else empty."""
    caller = caller_of(leg) if leg.traceparent is not None else None
    return caller.trace_id if caller is not None and caller.sampled else ""


def own_trace_id(leg: Leg, namespace: str) -> int:
    """The trace of a request that names none: one for each entry of a namespace."""
    return _number(f"{namespace} {leg.entry_id} {leg.request_id}", 16)


def span_id(trace_id: int, place: tuple[int, int]) -> int:
    """The span of the leg at this place."""
    return _number(f"{trace_id:x} {place[0]} {place[1]}", 8)


def _number(text: str, size: int) -> int:
    """Never 0, which says that there is none."""
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "big") or 1
