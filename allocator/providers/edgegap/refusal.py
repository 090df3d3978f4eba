"""What a status means at Edgegap where it is not good news.

In: a `Reply` that was read whole. Out: an outcome of a start. Pure. What its body says is read by `replies`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from allocator.providers.edgegap.wire import read_named
from allocator.providers.exchange import Reply
from allocator.providers.provider import (
    Broken,
    CredentialRefused,
    NoRoom,
    NotFound,
    Rejected,
    StartOutcome,
    Unknown,
)
from allocator.providers.reading import Unreadable
from allocator.providers.replies import error_message, is_spoken_by_host, retry_after_seconds

_UNKNOWN_NAME = re.compile(
    r"\b(application|app|version)\b.*\b(not? (be )?found|unknown|invalid|inactive|not active|does(n't| not) exist)\b"
    r"|\b(unknown|invalid|inactive|no such) (application|app|version)\b",
    re.IGNORECASE | re.DOTALL,
)
"""How a 400 says that there is no such application or version: it has one status for that and for a bad body."""


def refused_start(
    reply: Reply, *, throttle_statuses: frozenset[int], secrets: Iterable[str], now_seconds: float, by_players: bool
) -> StartOutcome:
    """What became of a start that was not answered with 202.

    Definite are only the refusals that the host documents as having created nothing, and a 422, which names what it
    has created and found no room for; whatever else comes is unknown. `by_players`: it was to be near the players, so
    that no room there says nothing of the location.
    """
    status, message = reply.status, error_message(reply, secrets)
    if status in throttle_statuses:
        return NoRoom(status, retry_after_seconds(reply.headers, now_seconds), message)
    if status == 503:
        rest_seconds = retry_after_seconds(reply.headers, now_seconds)
        return Unknown(status, message, closes=True, retry_after_seconds=rest_seconds)
    if not is_spoken_by_host(reply):
        return Unknown(status, message)  # a proxy's, which says nothing about a deployment
    match status:
        case 400:
            return NotFound(status, message) if _UNKNOWN_NAME.search(message) else Rejected(status, message)
        case 401 | 402 | 403:
            return CredentialRefused(status, message)
        case 404:
            return NotFound(status, message)
        case 422:
            left = read_named(reply.body)
            if not isinstance(left, Unreadable):
                return Broken(status, message, is_full=True, closes=not by_players, native_id=left)
    return Unknown(status, message)
