"""The values that labels take, as far as they are known before anything has happened.

In: nothing. Out: the ends, refusals, faults, causes and reasons that the metrics begin with at 0, and the same as a
table for `describe`. Regions and destinations are the settings'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from allocator.broker.census import OrphanKind
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.gate.gate import Cause

OTHER = "other"
ACCOUNT = "*"
"""The location that stands for a whole account."""

ENDS: Mapping[State, tuple[Code | None, ...]] = {
    State.ALLOCATED: (None,),
    State.FAILED: (
        Code.INVALID_REQUEST,
        Code.REJECTED,
        Code.NOT_FOUND,
        Code.NO_REGION,
        Code.ID_CONFLICT,
        Code.POISONED,
    ),
    State.EXPIRED: (Code.NO_CAPACITY, Code.UNAVAILABLE, Code.UNAUTHORIZED, Code.DEADLINE),
    State.CANCELLED: (None,),
}
"""The ends that this engine comes to; another is told from its first time on."""

REFUSALS = (Code.INVALID_REQUEST, Code.ID_CONFLICT, Code.OVERLOADED)
BURIALS = (Code.INVALID_REQUEST, Code.POISONED)
FAULTS = (
    *("connection", "timeout", "pool", "loading", "readonly", "out_of_memory"),
    *("masterdown", "clusterdown", "busy", "misconf", "noreplicas"),
)
STAGES = ("queue", "gate", "provider", "commit")
STOPS: Mapping[str, str] = {
    "start answered": "unknown_answer",
    "taken over": "taken_over",
    "ended cancelled": "cancelled",
    "ended": "ended",
    "condemned": "condemned",
    "superseded": "superseded",
    "release ": "release",
    "not ready": "not_ready",
    "orphan": "orphan",
}
"""How a reason for stopping begins, and the word for it; the first that fits counts."""

SHUT_OR_BUSY = "shut_or_busy"
FALLBACK_REASONS = frozenset({SHUT_OR_BUSY, *map(str, Outcome)})

LABEL_VALUES: Mapping[str, Iterable[str]] = {
    "priority": [each.value for each in Priority],
    "state": [each.value for each in ENDS],
    "code": [code.value for codes in ENDS.values() for code in codes if code is not None] + [Code.OVERLOADED.value],
    "outcome": [each.value for each in Outcome],
    "stage": STAGES,
    "hit": ("true", "false"),
    "cause": [each.value for each in Cause],
    "kind` of `orphan_sessions": [each.value for each in OrphanKind],
    "kind` of `redis_errors_total": FAULTS,
    "reason` of `sessions_stopped_total": [*STOPS.values(), OTHER],
    "reason` of `fallbacks_total": [SHUT_OR_BUSY, *(each.value for each in Outcome), OTHER],
}
"""By label, in the words of the page of metrics."""


def stop_reason(reason: str) -> str:
    """The word for why a session was stopped."""
    return next((word for start, word in STOPS.items() if reason.startswith(start)), OTHER)
