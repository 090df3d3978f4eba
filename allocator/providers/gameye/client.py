"""Gameye as a `Provider`: one HTTP call for one question, its outcome by status.

In: session ids, locations, what to run. Out: the outcomes of `allocator.providers.provider`. Promised: a start is sent
at most once and its outcome is never better than what the host said; absence is believed only from the host itself,
not from a proxy in front of it. Left to others: rates, retries, look-ups after an unknown outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from yarl import URL

from allocator.contract.request import MARK
from allocator.providers.asking import ask
from allocator.providers.credential import Credential
from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.providers.gameye.refusal import refused_start
from allocator.providers.gameye.wire import (
    read_described,
    read_listed,
    read_locations,
    read_started,
    start_body,
)
from allocator.providers.provider import (
    Absent,
    Created,
    FindOutcome,
    Found,
    Gone,
    LookupFailed,
    Offered,
    Session,
    StartOutcome,
    StartSpec,
    StopFailed,
    StopOutcome,
    Stopped,
    Unknown,
    Unreachable,
)
from allocator.providers.reading import Unreadable
from allocator.providers.replies import error_message, is_spoken_by_host

THROTTLE_STATUSES = frozenset({420, 429})
_SESSION_BYTES_MAX = 1024 * 1024
_LIST_BYTES_MAX = 64 * 1024 * 1024


class GameyeProvider:
    """One Gameye account at one of its environments."""

    def __init__(
        self,
        base_url: str,
        account: str,
        credential: Credential,
        throttle_statuses: frozenset[int] = THROTTLE_STATUSES,
        connector: aiohttp.BaseConnector | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the connections inside a running loop; a connector that is handed in stays its owner's to close."""
        self._base = _base_url(base_url)
        self._start_url = URL(f"{self._base}/session", encoded=True)
        self._account = account
        self._credential = credential
        self._throttle_statuses = throttle_statuses
        self._now = now
        self._exchange = Exchange(credential.token, connector)

    def __repr__(self) -> str:
        return f"GameyeProvider({self._base!r}, account={self._account!r})"

    @property
    def name(self) -> str:
        """`gameye`."""
        return "gameye"

    @property
    def account(self) -> str:
        """Whose rates these are."""
        return self._account

    def unsuited(self, location: str, spec: StartSpec) -> None:
        """Nothing that a request may ask for is beyond this host."""
        del location, spec

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        """Send one `POST /session` and say what came of it."""
        answer = await self._exchange.send(
            "POST",
            self._start_url,
            body=start_body(session_id, location, spec),
            timeout_seconds=timeout_seconds,
            reply_bytes_max=_SESSION_BYTES_MAX,
        )
        match answer:
            case Reply(status=201, body=body):
                session = read_started(body, session_id, location, spec)
                if isinstance(session, Unreadable):
                    return Unknown(201, f"the reply to a start cannot be read ({session.fault})")
                return Created(session, 201)
            case Reply():
                return refused_start(
                    answer,
                    throttle_statuses=self._throttle_statuses,
                    secrets=(*spec.env.values(), *spec.args, self._credential.token()),
                    now_seconds=self._now(),
                )
            case NotSent(message):
                return Unreachable(f"{message}; check gameye.environment or gameye.base_url and the network")
            case Lost(message, status):
                return Unknown(status, message, closes=status == 503)

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        """Describe one session; absent only where the host itself says so."""
        answer = await self._call("GET", timeout_seconds, "session", session_id)
        match answer:
            case LookupFailed():
                return answer
            case Reply(status=200, body=body):
                session = read_described(body)
                return session.failed() if isinstance(session, Unreadable) else Found(session)
            case Reply(status=404) if is_spoken_by_host(answer):
                return Absent()
            case Reply():
                return self._failed(answer)

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        """End one session; gone only where the host itself says so."""
        answer = await self._call("DELETE", timeout_seconds, "session", session_id)
        match answer:
            case LookupFailed(message, status):
                return StopFailed(message, status)
            case Reply(status=204):
                return Stopped()
            case Reply(status=404 | 409) if is_spoken_by_host(answer):
                return Gone()
            case Reply():
                failed = self._failed(answer)
                return StopFailed(failed.message, failed.status)

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        """Every session that runs and bears the mark; filtered here as well as there."""
        answer = await self._call("GET", timeout_seconds, "session", query=f"filter%5B{MARK}%5D={quote(mark, safe='')}")
        match answer:
            case LookupFailed():
                return answer
            case Reply(status=200, body=body):
                sessions = read_listed(body)
                if isinstance(sessions, Unreadable):
                    return sessions.failed()
                return tuple(session for session in sessions if session.mark == mark)
            case Reply():
                return self._failed(answer)

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """The locations that can host the image at this moment; a LookupFailed with 404 where the image is unknown.

        The host asks that it be not cached. A location that is listed is no promise, one that is not listed is full.
        """
        answer = await self._call("GET", timeout_seconds, "available-location", image)
        match answer:
            case LookupFailed():
                return answer
            case Reply(status=200, body=body):
                locations = read_locations(body)
                return locations.failed() if isinstance(locations, Unreadable) else Offered(frozenset(locations))
            case Reply():
                return self._failed(answer)

    async def close(self) -> None:
        """Give the connections back."""
        await self._exchange.close()

    async def _call(self, method: str, timeout_seconds: float, *segments: str, query: str = "") -> Reply | LookupFailed:
        """Send a call without a body to a path of these segments."""
        return await ask(
            self._exchange,
            method,
            self._base,
            *segments,
            query=query,
            timeout_seconds=timeout_seconds,
            reply_bytes_max=_LIST_BYTES_MAX if query else _SESSION_BYTES_MAX,
        )

    def _failed(self, reply: Reply) -> LookupFailed:
        return LookupFailed(error_message(reply, (self._credential.token(),)), reply.status)


def _base_url(text: str) -> str:
    """The URL without its last slash; ValueError names the setting and never repeats a password."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host or url.query_string or url.fragment:
        raise ValueError("gameye.base_url must be like https://host or http://127.0.0.1:8080")
    if url.user is not None or url.password is not None:
        raise ValueError("gameye.base_url must not hold a user or password; the credential is gameye.token")
    return str(url).rstrip("/")
