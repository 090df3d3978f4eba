"""What a status means at Gameye where it is not good news.

In: a `Reply` that was read whole. Out: an outcome of a start. Pure. What its body says is read by `replies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from allocator.providers.exchange import Reply
from allocator.providers.provider import (
    Conflict,
    CredentialRefused,
    NoRoom,
    NotFound,
    Rejected,
    StartOutcome,
    Unknown,
)
from allocator.providers.replies import error_message, retry_after_seconds

_MEANINGS: Mapping[int, Callable[[int, str], StartOutcome]] = {
    400: Rejected,
    401: CredentialRefused,
    402: CredentialRefused,
    403: CredentialRefused,
    404: NotFound,
    409: Conflict,
    422: Rejected,
}


def refused_start(
    reply: Reply, *, throttle_statuses: frozenset[int], secrets: Iterable[str], now_seconds: float
) -> StartOutcome:
    """What became of a start that was not answered with 201.

    Definite are only the refusals that the host documents as having created nothing; whatever else comes, a 4xx of a
    proxy and an unexpected 2xx as well, is unknown.
    """
    status = reply.status
    message = error_message(reply, secrets)
    if status in throttle_statuses:
        return NoRoom(status, retry_after_seconds(reply.headers, now_seconds), message)
    if status in _MEANINGS:
        return _MEANINGS[status](status, message)
    if status == 503:
        return Unknown(
            status, message, closes=True, retry_after_seconds=retry_after_seconds(reply.headers, now_seconds)
        )
    return Unknown(status, message)
