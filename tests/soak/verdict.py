"""What a soak did to its matches: the accounting of the crash tests, and two questions that need the time of things.

In: the matchmaker's book and every session of the provider's ledger. Out: sentences, each a broken promise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.crash.account import Account
from tests.crash.fleet import ALIVE
from tests.soak.matchmaker import Match, Matchmaker

OVERLAP_SECONDS = 30.0
"""What lands late is stopped, but not at once."""


def account(deployment: str, matchmaker: Matchmaker, sessions: Sequence[dict[str, Any]], waiting: int) -> Account:
    """The matchmaker's book as the crash tests' accounting wants it; `waiting`: entries and leases left in Redis."""
    return Account(
        deployment=deployment,
        hashes={
            name: {"state": match.state, "final": "1" if match.state else "", "session_id": match.session_id}
            for name, match in matchmaker.matches.items()
        },
        results=matchmaker.announced,
        alive=[session for session in sessions if session["status"] in ALIVE],
        started=list(sessions),
        waiting=waiting,
        leases=0,
    )


def stopped_in_play(matches: Mapping[str, Match], sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Matches whose server ended before anyone wanted it released."""
    by_id = {session["id"]: session for session in sessions}
    found = []
    for name, match in matches.items():
        ended_at_ms = by_id.get(match.session_id, {}).get("ended_at_ms")
        wanted_at_ms = match.released_at_ms
        if ended_at_ms is not None and (wanted_at_ms is None or ended_at_ms < wanted_at_ms - 1):
            found.append(name)
    return found


def long_doubles(sessions: Sequence[Mapping[str, Any]], now_ms: float) -> list[str]:
    """Matches that had two servers for longer than it takes to stop one that landed late."""
    by_match: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for session in sessions:
        ended = session["ended_at_ms"] or now_ms
        by_match[session["labels"].get("allocator_request", session["id"])].append((session["created_at_ms"], ended))
    found = []
    for name, spans in by_match.items():
        spans.sort()
        overlaps = (
            min(end, other_end) - other_begin
            for index, (_, end) in enumerate(spans)
            for other_begin, other_end in spans[index + 1 :]
        )
        if any(overlap > OVERLAP_SECONDS * 1000 for overlap in overlaps):
            found.append(name)
    return found
