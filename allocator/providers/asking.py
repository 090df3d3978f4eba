"""A call that sends no body, to a path of names: how hosts are asked, and told to stop a session.

In: an exchange, a base URL, the segments of a path. Out: a reply, whatever its status; `LookupFailed` where none came.
Promised: no name leads to another path than its own. What a status means is each provider's to say.
"""

from __future__ import annotations

from urllib.parse import quote

from yarl import URL

from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.providers.provider import LookupFailed


async def ask(
    exchange: Exchange,
    method: str,
    base: str,
    *segments: str,
    query: str = "",
    timeout_seconds: float,
    reply_bytes_max: int,
) -> Reply | LookupFailed:
    """Send one call to the path of these segments below `base`, which ends in no slash."""
    if not all(segment.strip(".") for segment in segments):
        # A server would fold `.` and `..` away and answer for another path.
        return LookupFailed(
            "an empty name, or one of dots alone, cannot be asked for; check the session id, image or version"
        )
    path = "/".join(quote(segment, safe="") for segment in segments)
    url = URL(f"{base}/{path}" + (f"?{query}" if query else ""), encoded=True)
    answer = await exchange.send(method, url, timeout_seconds=timeout_seconds, reply_bytes_max=reply_bytes_max)
    match answer:
        case Reply():
            return answer
        case NotSent(message):
            return LookupFailed(message)
        case Lost(message, status):
            return LookupFailed(message, status)
